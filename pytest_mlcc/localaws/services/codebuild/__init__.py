"""CodeBuild that really builds: buildspec phases run under bash on this machine."""
