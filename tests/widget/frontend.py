"""A front end without a browser."""

from __future__ import annotations

import copy
import itertools

import numpy as np

from sam3_widget.core.runs import RunLengths


class FrontEnd:
    """What a view knows: it applies messages as the front end does."""

    def __init__(self, widget):
        self.widget = widget
        self.sent = []
        self.rev = -1
        self.state = {}
        self.masks = {}
        self.marks = {}
        self._ids = itertools.count()
        widget.send = self.receive

    def receive(self, content, buffers=None):
        self.sent.append((content, buffers))
        payload = copy.deepcopy(content["payload"])
        if content["type"] == "snapshot":
            self.rev = content["rev"]
            self.state = payload
            self.masks = {i["object_id"]: buffers[i.pop("mask")] for i in payload["instances"]}
        elif content["type"] == "timeline":
            self.marks = {} if payload["whole"] else self.marks
            for object_id, frame_idx, *mark in payload["rows"]:
                self.marks[object_id, frame_idx] = mark
            gone = set(payload["removed"])
            self.marks = {k: m for k, m in self.marks.items() if k[0] not in gone and m != [None]}
        elif content["type"] == "patch" and self.rev >= 0:
            assert payload["base"] == self.rev
            self.rev = content["rev"]
            self.state.update(payload["set"])
            told = {i["object_id"]: i for i in self.state["instances"] if i["object_id"] not in payload["removed"]}
            for instance in payload["instances"]:
                if "mask" in instance:
                    self.masks[instance["object_id"]] = buffers[instance.pop("mask")]
                told[instance["object_id"]] = instance
            self.state["instances"] = [told[k] for k in payload.get("order", told)]
            self.masks = {k: m for k, m in self.masks.items() if k in told}

    def request(self, kind, payload):
        """Send a request and return its one answer."""
        request_id = f"view-{next(self._ids)}"
        start = len(self.sent)
        message = {"v": 1, "id": request_id, "type": kind, "rev": self.rev, "payload": payload}
        self.widget._handle_custom_msg(message, [])
        answers = [pair for pair in self.sent[start:] if pair[0]["id"] == request_id]
        assert len(answers) == 1
        return answers[0]

    def command(self, name, **args):
        content, _ = self.request("command", {"name": name, "args": args})
        self.settle()
        return content

    def settle(self):
        live = self.widget._picture
        with live.lock:
            asked = lambda: [*live.state.instances, *live.state.concepts]  # noqa: E731 - read anew each time
            assert live.lock.wait_for(lambda: not any(one.pending for one in asked()), 30)

    def agrees(self):
        """Tell whether what the view knows is what Python holds."""
        ids = [i["object_id"] for i in self.state["instances"]]
        masks = [RunLengths.from_bytes(self.masks[k]).to_mask() for k in ids]
        shown = np.array(masks).reshape(self.widget.masks.shape)
        same = ids == self.widget.object_ids.tolist() and set(ids) == set(self.masks)
        return same and (shown == self.widget.masks).all()
