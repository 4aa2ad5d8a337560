"""Talk to a person: data goes to stdout, talk to stderr, errors are one line and a hint."""
