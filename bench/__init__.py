"""Measures what Redress costs against plain boto3 doing the same, in one run on the emulated AWS. Never ships."""
