"""
When one address may have its next token compared. Pure.

A window holds the counts of one address. An address with a full window has its tokens compared one after the
other. The states of a window, by its two counts:

``open``
    Fewer tokens than the limit are admitted. The next one is admitted at once.
``occupied``
    As many as the limit are admitted, but some of them have not been compared yet. The next one waits until one of
    these turns out to be right, or all of them to be wrong.
``full``
    As many as the limit were wrong. The next one waits for its turn. Turns are 1 s apart at first, then 2 s, 4 s and
    5 s, and 5 s from then on.

A token that turns out to be right leaves no trace: it is taken out of the count, and the next turn begins. So does a
token that could not be compared. If the client leaves before its token is compared, the token counts as wrong;
otherwise leaving would be a way around the limit.

A window is over a minute after its first token. One that had a wrong token past the limit is over a minute after the
last of these, so that an address that goes on guessing stays in it. Then the next token begins a new window.

The clock may be set. Forward, it ends windows. Back, it ends those that would have begun in the future, and no wait
becomes longer than the longest.
"""

from typing import Final

from attrs import frozen

#: Seconds.
WINDOW: Final = 60.0
#: Seconds between two turns of an address in a full window, at the most.
LONGEST_DELAY: Final = 5.0
#: Seconds until an address in an occupied window asks again: another process may have compared its tokens.
POLL: Final = 0.1

_DELAYS: Final = (1.0, 2.0, 4.0, LONGEST_DELAY)


def delay(turn: int) -> float:
    """
    Return the seconds from one turn of a full window to the next.

    :param turn: the number of turns before; 0 for the delay between the token that fills the window and the first turn.
    """
    return _DELAYS[min(turn, len(_DELAYS) - 1)]


# With a dict these are made faster than with slots: for every guess there are four windows.
@frozen(slots=False)
class Ticket:
    """
    The admission of one token, to be handed back when the token has been compared.

    :ivar began: when the window began that admitted it.
    :ivar next_turn: when the turn after it begins; ``None`` if it needed no turn.
    """

    began: float
    next_turn: float | None


@frozen
class Wait:
    """
    No admission now.

    :ivar seconds: until it is worth asking again; more than 0.
    :ivar is_full: whether the window is full, and not just occupied.
    """

    seconds: float
    is_full: bool


@frozen(slots=False)
class Window:
    """
    All times are in the clock's seconds.

    :ivar began: when its first token was admitted.
    :ivar ends: when it is over.
    :ivar next_turn: when a full window admits its next token.
    :ivar admitted: tokens, without those that turned out to be right. None in a window that knows nothing.
    :ivar wrong: of these, tokens that have been compared.
    """

    began: float
    ends: float
    next_turn: float = 0.0
    admitted: int = 0
    wrong: int = 0

    @classmethod
    def begin(cls, now: float) -> "Window":
        """Return the window of an address that nothing is known of."""
        return cls(now, now + WINDOW)

    def holds(self, now: float) -> bool:
        """Return whether it is not over, and knows something."""
        return self.admitted > 0 and self.began <= now < self.ends

    def at(self, now: float) -> "Window":
        """Return the window that holds at a time: this one, or a new one."""
        if not self.holds(now):
            return Window.begin(now)
        if self.ends > now + WINDOW or self.next_turn > now + LONGEST_DELAY:
            # The clock was set back.
            ends, next_turn = min(self.ends, now + WINDOW), min(self.next_turn, now + LONGEST_DELAY)
            return Window(self.began, ends, next_turn, self.admitted, self.wrong)
        return self

    def admit(self, limit: int, now: float) -> "tuple[Window, Ticket | Wait]":
        """
        Admit one token, or say when to ask again.

        :return: the window behind it; the same one if the token has to wait.
        """
        if self.admitted >= limit and self.wrong < limit:
            return self, Wait(POLL, is_full=False)
        if self.admitted >= limit and now < self.next_turn:
            return self, Wait(min(self.next_turn, self.ends) - now, is_full=True)
        admitted = self.admitted + 1
        turn = now + delay(admitted - limit) if admitted > limit else None
        next_turn = self.next_turn if turn is None else turn
        return Window(self.began, self.ends, next_turn, admitted, self.wrong), Ticket(self.began, turn)

    def with_wrong(self, ticket: Ticket | None, limit: int, now: float) -> "Window":
        """
        Count a wrong token.

        :param ticket: of the token; ``None`` if it was compared without one.
        """
        is_counted = ticket is not None and ticket.began == self.began
        admitted, wrong = self.admitted + (not is_counted), self.wrong + 1
        next_turn = max(self.next_turn, now + delay(0)) if wrong == limit else self.next_turn
        ends = max(self.ends, now + WINDOW) if wrong > limit else self.ends
        return Window(self.began, ends, next_turn, admitted, wrong)

    def without(self, ticket: Ticket, now: float) -> "Window":
        """Forget a token that turned out to be right, or could not be compared."""
        if not self.admitted or ticket.began != self.began:
            return self
        next_turn = now if self.next_turn == ticket.next_turn else self.next_turn
        return Window(self.began, self.ends, next_turn, self.admitted - 1, self.wrong)
