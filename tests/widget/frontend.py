"""A front end without a browser."""

from __future__ import annotations

import copy
import itertools
import threading

import numpy as np

from sam3_widget.core.runs import RunLengths

UNTOUCHED = ["open", 0, None, None]
"""Status, count, score and error of an image that nothing was told of."""
TIMEOUT = 30


class FrontEnd:
    """What a view knows: it applies messages as the front end does."""

    _ids = itertools.count()  # of all views: two of one widget hear each other's answers

    def __init__(self, widget):
        self.widget = widget
        self.sent = []
        self.rev = -1
        self.state = {}
        self.masks = {}
        self.marks = {}
        self.names = []
        self.rows = {}
        self.classes = {}
        self.applied = None
        self._news = threading.Condition()
        widget.send = self.receive

    def receive(self, content, buffers=None):
        with self._news:
            self._take(content, buffers)
            self._news.notify_all()

    def _take(self, content, buffers):
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
        elif content["type"] == "dataset":
            self.names = payload.get("names", self.names)
            self.rows = {} if payload["whole"] else self.rows
            self.rows |= {image_idx: row for image_idx, *row in payload["rows"]}
            self.classes, self.applied = dict(payload["classes"]), payload["applied"]
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
        answers = self.answers(self.ask(kind, payload))
        assert len(answers) == 1
        return answers[0]

    def ask(self, kind, payload):
        """Send a request that may be answered later, and return its id."""
        request_id = f"view-{next(self._ids)}"
        message = {"v": 1, "id": request_id, "type": kind, "rev": self.rev, "payload": payload}
        self.widget._handle_custom_msg(message, [])
        return request_id

    def answers(self, request_id):
        return [pair for pair in list(self.sent) if pair[0]["id"] == request_id]

    def awaited(self, request_id):
        """Return the one answer of a request when it is there."""
        self.until(lambda: self.answers(request_id))
        answers = self.answers(request_id)
        assert len(answers) == 1
        return answers[0]

    def until(self, holds):
        """Return when something holds that messages make true."""
        with self._news:
            assert self._news.wait_for(holds, TIMEOUT)

    def told(self, kind):
        """Return the payloads of all messages of a kind, in order."""
        return [content["payload"] for content, _ in list(self.sent) if content["type"] == kind]

    def row(self, image_idx):
        """Return what is told of an image: status, count, score, error."""
        return self.rows.get(image_idx, UNTOUCHED)

    def command(self, name, **args):
        content, _ = self.request("command", {"name": name, "args": args})
        self.settle()
        return content

    def settle(self):
        live = self.widget._picture
        with live.lock:
            asked = lambda: [*live.state.instances, *live.state.concepts]  # noqa: E731 - read anew each time
            assert live.lock.wait_for(lambda: not any(one.pending for one in asked()), TIMEOUT)

    def agrees(self):
        """Tell whether what the view knows is what Python holds."""
        ids = [i["object_id"] for i in self.state["instances"]]
        masks = [RunLengths.from_bytes(self.masks[k]).to_mask() for k in ids]
        shown = np.array(masks).reshape(self.widget.masks.shape)
        same = ids == self.widget.object_ids.tolist() and set(ids) == set(self.masks)
        return same and (shown == self.widget.masks).all()
