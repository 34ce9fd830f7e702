"""The emulated AWS: MiniStack hosts the deployment, moto answers for EC2, a relay speaks CloudTrail.

Import `World` from `local.emulator.world`. Importing this package starts and imports nothing, so that the
pure parts (`wire`, `relay`) stay quick to test.
"""
