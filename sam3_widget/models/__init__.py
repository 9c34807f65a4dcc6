"""Models behind one contract (:mod:`sam3_widget.models.base`)."""
