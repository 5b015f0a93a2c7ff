"""The name of the processor, from `/proc/cpuinfo` of several architectures."""

import pytest

from train.studies.provenance import processor_name

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC

processor\t: 1
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
"""
ARM_32 = "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nCPU architecture: 7\n"
ARM_64 = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (X86, "AMD EPYC (family 25, model 17)"),
        (ARM_32, "ARMv7 Processor rev 4 (v7l)"),
        (ARM_64, ""),
        ("", ""),
    ],
)
def test_processor_name(cpuinfo, name):
    assert processor_name(cpuinfo) == name
