# SPDX-License-Identifier: Apache-2.0
"""Ids of 64 hex digits, their grammar, and readable container names [hot].

Whatever becomes a path is checked here first: an id is lower-case hex of the exact length, nothing else (attacks 47 and 66).
"""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HEX = frozenset("0123456789abcdef")

_ADJECTIVES = (
    "agile amber ardent balmy bold brisk calm candid cheerful civil clever coastal cordial crisp curious daring deft dulcet "
    "earnest eloquent even fabled fair fearless fluent fond frank gallant genial gentle gilded glad graceful hardy hearty honest "
    "humble jaunty jovial keen kindly lively lucid mellow merry mindful mirthful modest nimble noble patient placid plucky poised "
    "prudent quiet rapid rustic sage serene sincere sly snug sober steady sterling sturdy sunny supple tender thrifty tidy "
    "tranquil trusty upbeat valiant vivid warm wily wise witty zesty").split()
_SURNAMES = (
    "abel agnesi ampere anning arago avogadro bassi bernoulli bessel bose brahe braille cantor carson cauchy celsius chandra "
    "clairaut copernicus coulomb curie dalton darwin descartes dirac doppler edison ehrenfest eratosthenes euclid euler faraday "
    "fermat fermi feynman fourier franklin galileo galois gauss germain goedel goodall gutenberg halley hamilton herschel hertz "
    "hilbert hodgkin hooke hopper hubble huygens hypatia jacobi joule kepler kirchhoff kovalevskaya lagrange landau laplace "
    "lavoisier leavitt leibniz linnaeus lovelace maxwell mayer meitner mendel mendeleev mitchell moebius napier newton noether ohm "
    "oersted pascal pasteur pauli peano planck poincare ptolemy ramanujan riemann rutherford sagan schwarz shannon somerville "
    "stokes sylvester tesla thales torricelli turing volta wallis watt weyl wiles wu yalow yukawa").split()


def new_id() -> str:
    """64 hex digits from the kernel's random source. The short form is never all decimal: as a host name it would read as a number."""
    while True:
        name = os.urandom(32).hex()
        if not name[:12].isdecimal():
            return name


def is_id(text: str) -> bool:
    """Exactly 64 lower-case hex digits."""
    return len(text) == 64 and HEX.issuperset(text)


def is_hex_prefix(text: str) -> bool:
    """May be the beginning of an id: 1 to 64 lower-case hex digits."""
    return 0 < len(text) <= 64 and HEX.issuperset(text)


def short(full: str) -> str:
    """The 12 digits that people see; an algorithm prefix is dropped."""
    return full[7:19] if full.startswith("sha256:") else full[:12]


def new_name(taken: Callable[[str], bool]) -> str:
    """A free name like `keen_lovelace`. After some tries a digit is appended; it ends, as the space then grows with each try."""
    tries = 0
    while True:
        a, b, c, d = os.urandom(4)
        name = f"{_ADJECTIVES[(a << 8 | b) % len(_ADJECTIVES)]}_{_SURNAMES[(c << 8 | d) % len(_SURNAMES)]}"
        if tries >= 6:
            name += str(int.from_bytes(os.urandom(4), "big") % 10 ** min(tries - 5, 9))
        if not taken(name):
            return name
        tries += 1
