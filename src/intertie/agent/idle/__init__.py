"""Ways to learn since when nobody has touched the machine. One file per way; `choose` picks the first that works.

| way | where | sees |
|---|---|---|
| windows | Windows, in the user's session | input of that session |
| macos | macOS | keyboards and pointers |
| mutter | GNOME, over the session bus | input of that session |
| wayland | KDE, Sway and others, over Wayland | input of that session, and films that keep the screen on |
| x11 | X servers of this machine | input of that display |
| logind | any Linux with systemd, also from a system service | what desktops tell it, and terminals |
| terminals | Linux without any display | terminals and SSH sessions |
"""
