"""Measuring a detector on datasets: reading them, running, results, reports. Nothing of vlad below the command line imports this."""
