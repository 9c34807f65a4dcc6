.PHONY: demo test lint bundle screenshot

demo test lint bundle screenshot:
	@bash scripts/dev.sh $@
