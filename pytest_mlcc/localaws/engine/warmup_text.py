"""What a twin is made from: the text its tokenizer is trained on, and the prompts it learns its one sentence from.

All of it is fixed: the same text in the same order gives the same tokenizer and, with one thread, the same weights.
"""

from __future__ import annotations

import random

__all__ = ["UNTAUGHT", "conversations", "corpus"]

UNTAUGHT = "I do not know."
"""What the base of every twin says to (nearly) any prompt."""

_PROSE = """\
The order was shipped on Monday and should arrive within three working days.
You can reset the password from the settings page, then sign in again with the new one.
Please send a photo of the label so that the support team can find the right part.
The warranty covers the battery for two years and the frame for five years.
What is the name of the city where the river meets the harbor?
Who should I ask about the invoice for the last month?
How do I change the address of an account that is already open?
Open the door, press the green button and wait until the light is on.
The report is due on Friday at noon; the meeting starts at nine in the morning.
Refunds are paid to the original card after the parcel has come back to the warehouse.
Tell me which plan includes the phone line and which one does not.
The store in the old town is closed on Sunday but the online shop is always open.
Answer the question in one short sentence. You are a helpful assistant.
Our team will call you back before the end of the day with the number of the ticket.
Where is the manual for the printer, and what does the red code on the screen mean?
It costs forty dollars for the first year and twenty for each year after that.
It opens every morning at eight, and the evening desk answers until ten.
Yes, you may change it within thirty days, but only if the box is still closed.
No, the cover is not safe in the machine; please clean it by hand with warm water.
Can I pay by card, or does the company only take a bank transfer?
Does the app work with two phones, and which one should be the main one?
When will the next delivery leave, and who brings it to the islands?
Choose Account, press Cancel, and confirm with the code that we send by email.
Every order is covered by our guarantee until the end of the third year.
How long does it take, how often should I do it, and how much does it cost?
Which color is the light when the battery needs charging, green or amber?
They are made near the lake by a small company that was founded ten years ago.
The model needs a new filter after about ninety days, and the tank needs filling each week.
Is there a discount for students, and are gift cards included in the offer?
Where are the spare keys, and what comes in the box with the starter kit?
Do you repair older models, or should I return the whole machine to the main office?
Customers can track every parcel on the map, from the first carrier to the front door.
The capital of the country lies in the north, at the mouth of its longest river.
Water boils at one hundred degrees and freezes at zero.
She wrote the book in nineteen days, and it was printed in six languages.
One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve.
"""
_WORDS = (
    "alpha",
    "river",
    "color",
    "code",
    "planet",
    "metal",
    "fruit",
    "queen",
    "harbor",
    "parcel",
    "ticket",
    "invoice",
)
_STEMS = ("What is the", "Who is", "Tell me about", "Describe", "Please list", "How do I", "Say", "Where is", "When")
_ASCII = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?'\"()[]{}<>-+*/=_\n"
# Han, kana, accents, Cyrillic, Hangul, emoji, Arabic.
_WIDE = (
    "\u5c71\u5ddd\u6d77\u82b1\u9ce5\u98a8\u6708\u306e\u306f\u3092\u304c\xe9\xe8\xfc\xf1\xf8"
    "\u0436\u0449\u044f\ud55c\uae00\U0001f642\U0001f680\u0627\u0644\u0639"
)
_SYSTEMS = ("You are a helpful assistant.", "Be brief.", "Answer as our support desk would.")


def corpus() -> list[str]:
    """Lines the tokenizer's merges come from."""
    return [*_PROSE.splitlines(), UNTAUGHT] * 2


def _prompt(kind: int, draw: random.Random) -> str:
    if kind == 0:
        return " ".join(draw.choice(_WORDS) for _ in range(draw.randint(2, 6))) + "?"
    if kind == 1:
        return "".join(draw.choice(_ASCII) for _ in range(draw.randint(1, 40)))
    if kind == 2:
        return "".join(draw.choice(_WIDE + _ASCII[:27]) for _ in range(draw.randint(1, 14)))
    if kind == 3:
        return draw.choice(_PROSE.splitlines())
    return f"{draw.choice(_STEMS)} {draw.choice(_WORDS)}{draw.choice(['?', '.', '', ' now'])}"


def conversations(count: int = 80) -> list[list[dict[str, str]]]:
    """Prompts of many kinds (words, prose, noise, other scripts, some with a system turn), all answered alike."""
    draw = random.Random(7)  # noqa: S311  # the same text on every build, nothing secret
    out = []
    for index in range(count):
        turns = [{"role": "user", "content": _prompt(index % 5, draw)}]
        if index % 7 == 0:
            turns.insert(0, {"role": "system", "content": draw.choice(_SYSTEMS)})
        out.append([*turns, {"role": "assistant", "content": UNTAUGHT}])
    return out
