"""to_char of numbers and to_number (PostgreSQL 15 manual, 9.8.2).

A template says how many digits stand before and after the point, where blanks or zeros fill up,
and where sign, groups and ordinal endings go.  A number that does not fit is printed as #.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

from base.errors import MeridianError, error
from base.typeio.numeric import EXACT, checked, parse_numeric, render_numeric
from base.typeio.pictures import KEYWORD, Node, ordinal_ending, roman, split_number_picture

DOUBLE_DIGITS: Final = 15
_INT4_MAX: Final = 2**31 - 1
_END: Final = "\0"
_DIGIT_NODES: Final = ("9", "0", ".", "D")


class NumberPicture:
    """What the whole template asks for."""

    def __init__(self, template: str) -> None:
        self.nodes = split_number_picture(template)
        self.before = 0
        self.after = 0
        self.shift = 0
        """Digits after V: the number is multiplied by this power of ten."""
        self.zero_start = 0
        self.zero_end = 0
        self.has_zero = self.has_point = self.fills = self.is_blank = False
        self.has_sign = self.has_minus = self.has_plus = self.has_brackets = False
        self.is_roman = self.is_shifted = self.is_scientific = False
        self.sign_leads = False
        """Of S: before the digits, or after."""
        self.digits_before_sign = 0
        for node in self.nodes:
            if node.kind == KEYWORD:
                self._add(node.name)

    def _add(self, name: str) -> None:
        if self.is_scientific and name != "EEEE":
            raise _bad('"EEEE" must be the last pattern used')
        if name in ("9", "0"):
            self._add_digit(name)
        elif name in (".", "D"):
            if self.has_point:
                raise _bad("multiple decimal points")
            if self.is_shifted:
                raise _bad('cannot use "V" and decimal point together')
            self.has_point = True
        elif name == "B":
            self.is_blank = self.before == 0 and self.after == 0 and not self.has_zero
        elif name == "FM":
            self.fills = True
        elif name == "S":
            self._add_sign()
        elif name in ("MI", "PL", "SG"):
            if self.has_sign:
                raise _bad(f'cannot use "S" and "{name}" together')
            self.has_minus = self.has_minus or name != "PL"
            self.has_plus = self.has_plus or name != "MI"
        elif name == "PR":
            if self.has_sign or self.has_plus or self.has_minus:
                raise _bad('cannot use "PR" and "S"/"PL"/"MI"/"SG" together')
            self.has_brackets = True
        elif name == "RN":
            self.is_roman = True
        elif name == "V":
            if self.has_point:
                raise _bad('cannot use "V" and decimal point together')
            self.is_shifted = True
        elif name == "EEEE":
            self._add_exponent()

    def _add_digit(self, name: str) -> None:
        if self.has_brackets:
            raise _bad(f'"{name}" must be ahead of "PR"')
        if name == "9" and self.is_shifted:
            self.shift += 1
            return
        if name == "0" and not self.has_zero and not self.has_point:
            self.has_zero = True
            self.zero_start = self.before + 1
        if self.has_point:
            self.after += 1
        else:
            self.before += 1
        if name == "0":
            self.zero_end = self.before + self.after

    def _add_sign(self) -> None:
        if self.has_sign:
            raise _bad('cannot use "S" twice')
        if self.has_plus or self.has_minus or self.has_brackets:
            raise _bad('cannot use "S" and "PL"/"MI"/"SG"/"PR" together')
        self.has_sign = True
        if not self.has_point:
            self.sign_leads = True
            self.digits_before_sign = self.before

    def _add_exponent(self) -> None:
        if self.is_scientific:
            raise _bad('cannot use "EEEE" twice')
        if (
            self.is_blank
            or self.fills
            or self.has_sign
            or self.has_brackets
            or self.has_minus
            or self.has_plus
            or self.is_roman
            or self.is_shifted
        ):
            detail = '"EEEE" may only be used together with digit and decimal point patterns.'
            raise error("42601", '"EEEE" is incompatible with other formats', detail=detail)
        self.is_scientific = True


def _bad(message: str) -> MeridianError:
    return error("42601", message)


# --- to_char ------------------------------------------------------------------------------------


def numeric_to_char(value: Decimal, template: str) -> str:
    picture = NumberPicture(template)
    if picture.is_roman:
        return _print(picture, roman(_into_int4(value)), "+", 0)
    if picture.is_scientific:
        return _scientific(value, picture)
    if picture.is_shifted:
        value = EXACT.scaleb(value, picture.shift) if value.is_finite() else value
        picture.before += picture.shift
    if value.is_finite():
        value = checked(value.quantize(Decimal((0, (1,), -picture.after)), context=EXACT))
    return _print_digits(picture, render_numeric(value))


def _into_int4(value: Decimal) -> int:
    """The cast to integer."""
    if not value.is_finite():
        raise error("0A000", f"cannot convert {'NaN' if value.is_nan() else 'infinity'} to integer")
    rounded = value.to_integral_value(context=EXACT)
    if not -_INT4_MAX - 1 <= rounded <= _INT4_MAX:
        raise error("22003", "integer out of range")
    return int(rounded)


def float_to_char(value: float, template: str, single: bool = False) -> str:
    """Digits beyond what a double (15) or a single (6) holds are not printed."""
    picture = NumberPicture(template)
    if picture.is_roman:
        return _print(picture, roman(round(value) if math.isfinite(value) else 0), "+", 0)
    if picture.is_scientific or not math.isfinite(value):
        if picture.is_scientific and math.isfinite(value):
            return (
                format(value, f"+.{picture.after}e").replace("+", " ", 1)
                if value >= 0
                else format(value, f".{picture.after}e")
            )
        return numeric_to_char(Decimal(repr(value)), template)
    if picture.is_shifted:
        value *= 10.0**picture.shift
        picture.before += picture.shift
    digits = 6 if single else DOUBLE_DIGITS
    whole = len(format(abs(value), ".0f"))
    after = 0 if whole >= digits else min(picture.after, digits - whole)
    picture.after = after
    return _print_digits(picture, format(value, f".{after}f"))


def _scientific(value: Decimal, picture: NumberPicture) -> str:
    if not value.is_finite():
        filled = list("#" * (picture.before + picture.after + 6))
        filled[0] = " "
        filled[picture.before + 1] = "."
        return "".join(filled)
    # The exponent is that of the value before rounding: 99.999 may print as 10.0e+01, as in PostgreSQL.
    exponent = value.adjusted() if value else 0
    unit = Decimal((0, (1,), exponent - picture.after))
    rounded = value.quantize(unit, context=EXACT)
    mantissa = render_numeric(EXACT.scaleb(rounded, -exponent))
    text = f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return text if text[0] == "-" else " " + text


def _print_digits(picture: NumberPicture, number: str) -> str:
    sign = "-" if number[0] == "-" else "+"
    digits = number.lstrip("-")
    before = len(digits.partition(".")[0])
    blanks = max(picture.before - before, 0)
    if before > picture.before:
        digits = "#" * picture.before + "." + "#" * picture.after
    return _print(picture, digits, sign, blanks)


def _print(picture: NumberPicture, digits: str, sign: str, blanks: int) -> str:
    return _NumberPrinter(picture, digits, sign, blanks).run()


class _NumberPrinter:
    """Walks the template, and the digits beside it."""

    def __init__(self, picture: NumberPicture, digits: str, sign: str, blanks: int) -> None:
        self.picture = picture
        self.digits = digits
        self.sign = sign
        self.blanks = blanks
        """Digit positions before the first digit there is."""
        self.out: list[str] = []
        self.at = 0
        self.position = 0
        self.has_begun = False
        """A digit has just been written, so that a group separator makes sense."""
        self.fills = picture.fills
        self.has_brackets = picture.has_brackets and not (picture.fills and sign != "-")
        self.sign_leads = picture.sign_leads and picture.before != picture.digits_before_sign
        if picture.has_plus or picture.has_minus:
            self.sign_written = picture.has_minus
        else:
            self.sign_written = sign == "+" and picture.fills and not picture.has_sign
        self.last = self._last_relevant()
        """Index of the last digit that FM keeps; -1 keeps all."""
        self.count = picture.after + picture.before - 1 + (1 if not self.sign_written and blanks == 0 else 0)

    def _last_relevant(self) -> int:
        picture = self.picture
        if not (picture.fills and picture.has_point):
            return -1
        point = self.digits.find(".")
        if point < 0:
            return -1
        last = len(self.digits.rstrip("0")) - 1
        if picture.zero_end > self.blanks:
            last = max(last, min(len(self.digits) - 1, picture.zero_end - self.blanks))
        return last

    def run(self) -> str:
        for node in self.picture.nodes:
            if node.kind != KEYWORD:
                self.out.append(node.text)
            elif node.name in _DIGIT_NODES:
                if not self.picture.is_roman:
                    self._digit(node.name)
            else:
                self._other(node)
        # Past the last digit (a number cut short, or NaN) nothing more is printed.
        return "".join(self.out).partition(_END)[0]

    def _other(self, node: Node) -> None:
        name = node.name
        blank = "" if self.fills else " "
        if name in (",", "G"):
            self.out.append("," if self.has_begun else blank)
        elif name == "L":
            self.out.append(" ")
        elif name == "RN":
            letters = self.digits if node.text.isupper() else self.digits.lower()
            self.out.append(letters if self.fills else letters.rjust(15))
        elif name == "TH":
            if not (self.picture.is_roman or self.digits[0] == "#" or self.sign == "-" or self.picture.has_point):
                if not self.digits[-1].isdecimal():
                    raise error("22P02", f'"{self.digits}" is not a number')
                self.out.append(ordinal_ending(self.digits, node.text))
        elif name == "MI":
            self.out.append("-" if self.sign == "-" else blank)
        elif name == "PL":
            self.out.append("+" if self.sign == "+" else blank)
        elif name == "SG":
            self.out.append(self.sign)

    def _keeps_only_point(self) -> bool:
        return self.last >= 0 and self.digits[self.last] == "."

    def _is_leading_zero(self) -> bool:
        """``0.1`` printed by 9.9: the zero is a blank."""
        return not self.picture.has_zero and self.at == 0 and self.digits[:1] == "0" and self.picture.after != 0

    def _write_sign(self) -> None:
        if self.picture.has_sign:
            if self.sign_leads:
                self.out.append(self.sign)
                self.sign_written = True
        elif self.has_brackets:
            self.out.append(" " if self.sign == "+" else "<")
            self.sign_written = True
        else:
            if self.sign == "-":
                self.out.append("-")
            elif not self.fills:
                self.out.append(" ")
            self.sign_written = True

    def _digit(self, name: str) -> None:
        picture = self.picture
        position = self.position
        zero_start = picture.zero_start - 1
        self.has_begun = False
        zero_here = picture.has_zero and zero_start <= position
        if not self.sign_written and (position >= self.blanks or (picture.has_zero and zero_start == position)):
            if not self._is_leading_zero() or self._keeps_only_point():
                self._write_sign()
        if position < self.blanks and not zero_here:
            if not self.fills:
                self.out.append(" ")
        elif position < self.blanks:
            self.out.append("0")
            self.has_begun = True
        else:
            self._write_next(name)
        end = self.count + (1 if self.blanks else 0) + (1 if picture.has_point else 0)
        if self.last >= 0 and self.last == self.at:
            end = position
        if position + 1 == end:
            if self.sign_written and self.has_brackets:
                self.out.append(" " if self.sign == "+" else ">")
            elif picture.has_sign and not self.sign_leads:
                self.out.append(self.sign)
        self.position += 1

    def _write_next(self, name: str) -> None:
        """The next character of the number, or what stands for it."""
        c = self.digits[self.at] if self.at < len(self.digits) else ""
        if c == ".":
            if not self._keeps_only_point() or self.fills:
                self.out.append(".")
        elif self.last >= 0 and self.at > self.last and name != "0":
            pass
        elif self._is_leading_zero():
            if not self.fills:
                self.out.append(" ")
            elif self._keeps_only_point():
                self.out.append("0")
        else:
            self.out.append(c or _END)
            self.has_begun = True
        if c:
            self.at += 1


# --- to_number ----------------------------------------------------------------------------------


def char_to_numeric(text: str, template: str) -> Decimal | None:
    """to_number(text, template); None for an empty template."""
    if not template:
        return None
    picture = NumberPicture(template)
    if picture.is_roman:
        raise error("0A000", '"RN" not supported for input')
    if picture.is_scientific:
        raise error("0A000", '"EEEE" not supported for input')
    reader = _NumberReader(picture, text)
    reader.run()
    value = parse_numeric(reader.sign + reader.digits.rstrip(".") if reader.digits else reader.sign)
    if picture.is_shifted:
        value = _shift_down(value, picture.shift)
    return value


def _shift_down(value: Decimal, shift: int) -> Decimal:
    """Division by a power of ten, with the decimals PostgreSQL's division gives: 16 digits at least."""
    exact = EXACT.scaleb(value, -shift)
    return exact.quantize(Decimal((0, (1,), -max(16, shift))), context=EXACT)


_SIGNS: Final = {"MI": "-", "PL": "+", "SG": "+-"}


class _NumberReader:
    """Walks the template and the input together."""

    def __init__(self, picture: NumberPicture, text: str) -> None:
        self.picture = picture
        self.text = text
        self.at = 0
        self.sign = " "
        self.digits = ""
        self.read_before = 0
        self.read_after = 0
        self.has_point = False
        self.sign_leads = picture.sign_leads and picture.before != picture.digits_before_sign

    def run(self) -> None:
        for node in self.picture.nodes:
            if self.at >= len(self.text):
                return
            if node.kind != KEYWORD:
                self.at += 1
                continue
            name = node.name
            if name in _DIGIT_NODES:
                self._digit(name)
                self.at += 1
            elif name in (",", "G"):
                if self.text[self.at] == "," and not (self.picture.fills and not self.digits):
                    self.at += 1
            elif name in _SIGNS and self.text[self.at] in _SIGNS[name]:
                self.sign = self.text[self.at]
                self.at += 1
            elif name in ("MI", "PL", "SG", "L"):
                self._skip_other(1)
            elif name == "TH":
                self._skip_other(2)

    def _skip_other(self, count: int) -> None:
        while count and self.at < len(self.text) and self.text[self.at] not in "0123456789.,+-":
            self.at += 1
            count -= 1

    def _at(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _digit(self, name: str) -> None:
        if self._at() == " ":
            self.at += 1
        if self.sign == " " and name in ("9", "0") and not self.digits.strip("."):
            self._leading_sign()
        c = self._at()
        was_read = False
        if "0" <= c <= "9":
            if self.has_point and self.read_after == self.picture.after:
                return
            self.digits += c
            self.read_after += 1 if self.has_point else 0
            self.read_before += 0 if self.has_point else 1
            was_read = True
        elif self.picture.has_point and not self.has_point and c == ".":
            self.digits += c
            self.has_point = was_read = True
        if self.sign == " " and self.read_before + self.read_after > 0 and c:
            self._trailing_sign(was_read)

    def _leading_sign(self) -> None:
        c = self._at()
        if self.picture.has_sign and not self.sign_leads:
            return
        if c == "-" or (c == "<" and self.picture.has_brackets):
            self.sign = "-"
            self.at += 1
        elif c == "+":
            self.sign = "+"
            self.at += 1

    def _trailing_sign(self, was_read: bool) -> None:
        picture = self.picture
        if picture.has_sign and was_read:
            following = self.text[self.at + 1 : self.at + 2]
            if following in ("-", "+"):
                self.sign = following
                self.at += 1
        elif not was_read and (picture.has_plus or picture.has_minus) and self._at() in ("-", "+"):
            self.sign = self._at()
