"""Sending a training to a cloud: what is sent, and the description of the job."""
