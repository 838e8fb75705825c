"""What images and labels are, before they cost a day: ``facts`` looks, ``verdict`` judges."""
