"""Tables of pandas, which is not a requirement of the package."""

from __future__ import annotations

from typing import Any

from tf_image_classification.errors import ConfigError


def data_frame(content: Any) -> Any:
    """A pandas DataFrame of columns or rows.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("to_pandas needs pandas. Type: pip install pandas") from error
    return pandas.DataFrame(content)
