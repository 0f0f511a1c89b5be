"""Who may answer a call, in which order, and how far we go when they fail. Pure: time and chance come as arguments."""
