"""Send tickets to the server, and print for each its topic, its urgency and its entities.

python ask.py "My kettle is broken" "Where is order 12345?"
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

URL = os.environ.get("INBOX_URL", "http://127.0.0.1:8000")
ADAPTERS = ["topic", "urgency", "entities"]


def answers(text: str) -> dict[str, object]:
    """Return the answers of all adapters to a text, from one request."""
    body = json.dumps({"text": text, "adapters": ADAPTERS}).encode()
    request = urllib.request.Request(f"{URL}/v1/annotate", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["answers"]


for text in sys.argv[1:]:
    print(text)
    for name, answer in answers(text).items():
        print(f"  {name:<9} {json.dumps(answer)}")
