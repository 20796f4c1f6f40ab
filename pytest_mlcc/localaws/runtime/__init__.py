"""Images run as processes of this machine: the containers of the local AWS, without a container engine."""
