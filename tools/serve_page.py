"""`python tools/serve_page.py`: the command `alexnet serve-page`,
alexnet_tf/commands/serve_page.py.
"""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("serve-page")
