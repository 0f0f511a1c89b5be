"""The far end of the link: a program on somebody's machine that offers its runtimes. Standard library only."""
