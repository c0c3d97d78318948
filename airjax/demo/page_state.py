"""What the page keeps of a user while it is open: the run, the picture, the sliders, and the
corrections of all pictures so far."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from airjax.demo.answer import Answer, Edit
from airjax.demo.uploads import Subject
from airjax.inference.writers import Picture
from airjax.prediction.predictor import KEPT, Kept

MOST_PICTURES = 1000  # whose corrections are kept; the oldest are dropped


class Corrected(NamedTuple):
    """A picture that was corrected by hand.

    Attributes:
        edits: in their order.
        picture: the answer with them.
    """

    edits: tuple[Edit, ...]
    picture: Picture


@dataclass(frozen=True)
class PageState:
    """A user's run, picture, sliders and corrections.

    Attributes:
        answer: of the picture that is shown.
        num_paths: K that it was read with.
        kept: what the sliders leave, of this picture and of the next one.
        corrected: by the run that found the objects, and the digest of the picture.
        run: path of the run that is shown.
        left: the picture that each other run showed last.
    """

    answer: Answer
    num_paths: int
    kept: Kept = KEPT
    corrected: dict[tuple[str, str], Corrected] = field(default_factory=dict)
    run: str = ""
    left: dict[str, Subject] = field(default_factory=dict)

    def showing(self, answer: Answer, num_paths: int | None = None) -> "PageState":
        """Another picture, or the same one read again; with the sliders as they are, and with what
        was corrected in it before."""
        before = self.corrected.get((self.run, answer.digest))
        edits = () if before is None else before.edits
        answer = replace(answer, kept=self.kept, edits=edits)
        num_paths = self.num_paths if num_paths is None else num_paths
        return replace(self, answer=answer, num_paths=num_paths)._noted()

    def turned_to(self, run: str, answer: Answer) -> "PageState":
        """Another run, and its answer; nothing else is lost."""
        left = self.left | {self.run: self.answer.subject}
        return replace(self, run=run, left=left).showing(answer)

    def keeping(self, kept: Kept) -> "PageState":
        """With other sliders."""
        return replace(self, answer=replace(self.answer, kept=kept), kept=kept)._noted()

    def edited(self, answer: Answer) -> "PageState":
        """With another correction, or one less."""
        return replace(self, answer=answer)._noted()

    def truth(self) -> list[Picture]:
        """All pictures that were corrected, and the one that is shown, which is the last. What was
        corrected with several runs is as it was corrected last."""
        by_digest = {digest: one.picture for (_, digest), one in self.corrected.items()}
        shown = by_digest.pop(self.answer.digest, self.answer.picture)
        pictures = [*by_digest.values(), shown]
        return list({(each.file, each.page): each for each in pictures}.values())

    def _noted(self) -> "PageState":
        key = self.run, self.answer.digest
        others = {k: one for k, one in self.corrected.items() if k != key}
        if self.answer.edits:
            others[key] = Corrected(self.answer.edits, self.answer.picture)
        return replace(self, corrected=dict(list(others.items())[-MOST_PICTURES:]))
