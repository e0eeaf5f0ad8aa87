"""The closing screen of the demonstration."""

from experiments.demo import advice

COMMAND = f"  fmscale sweep {'model=gpt/3x96 ' * 9}"


def test_advice_fits_a_screen_and_keeps_its_command_whole():
    sentence = "  determined: " + "the fall that the laws expect " * 5
    lines = advice({"decision": {"lines": ["train it", sentence, COMMAND]}}).splitlines()
    assert lines[0] == "  train it"
    assert lines[-1] == f"  {COMMAND}"
    assert all(len(line) <= 80 for line in lines[:-1])
    assert " ".join(" ".join(lines[1:-1]).split()) == " ".join(sentence.split())
