"""``python -m tf_image_classification VERB ...``, where ``tfic`` is not on the path."""

from tf_image_classification.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
