"""CodeBuild that really builds: buildspec phases run in a shell of this machine."""
