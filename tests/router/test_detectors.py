"""What is found in texts, and what is not mistaken for it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.router.detectors import DESCRIPTIONS, make_detectors
from mlx_integrations.router.policy import DETECTORS

_HEX = "0123456789abcdef"

FOUND = [
    ("email", "Write to ada@example.org, please."),
    ("email", "<x.y+z@mail.example.co.uk>"),
    ("email", "ünï@exämple.org"),
    ("email", "mailto:o'neill@example.com?subject=hi"),
    ("card", "4111 1111 1111 1111"),
    ("card", "card:4111111111111111!"),
    ("card", "4111 1111 1111 1111 12/29"),
    ("card", "on the 12 4111111111111111"),
    ("card", "4111-1111-1111-1111-123"),
    ("card", "American Express 378282246310005"),
    ("card", "5555-5555-5555-4444"),
    ("card", "2223003122003222"),
    ("card", "6011000990139424"),
    ("card", "3530111333300000"),
    ("card", "４１１１ １１１１ １１１１ １１１１"),
    ("iban", "DE89 3704 0044 0532 0130 00 and more"),
    ("iban", "gb82west12345698765432"),
    ("iban", "to NL91ABNA0417164300."),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("ip", "the server at 192.168.1.17"),
    ("ip", "http://10.0.0.1:8080/v1"),
    ("ip", "2001:db8::8a2e:370:7334"),
    ("ip", "Resolve with 9.9.9.9."),
    ("phone", "+49 30 901820"),
    ("phone", "call (212) 555-0187 now"),
    ("phone", "030 12345678"),
    ("phone", "06 12 34 56 78"),
    ("phone", "+1-212-555-0187"),
    ("phone", "0171/1234567"),
    ("phone", "Tel.:+442079460958"),
    ("secret", "-----BEGIN RSA PRIVATE KEY-----\nMIIE"),
    ("secret", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ("secret", "-----BEGIN PRIVATE KEY-----"),
    ("secret", "-----BEGIN PGP PRIVATE KEY BLOCK-----"),
    ("secret", "sk-proj-abcdefghijklmnopqrstuv"),
    ("secret", "key sk-ant-api03-abcdefghijklmnopqrstuv"),
    ("secret", "AKIAIOSFODNN7EXAMPLE"),
    ("secret", "ghp_" + "a1" * 18),
    ("secret", "github_pat_" + "A1b2" * 6),
    ("secret", "glpat-" + "x" * 20),
    ("secret", "xoxb-1234567890-abc"),
    ("secret", "AIza" + "Sy" * 17 + "x"),
    ("secret", "hf_" + "aB" * 17),
    ("secret", "sk_live_" + "4eC39HqLyjWDarjt"),
    ("secret", "lsv2_pt_" + _HEX * 2 + "_abc"),
    ("secret", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop"),
    ("secret", "postgres://me:hunter22@host/db"),
    ("secret", "password: hunter22x"),
    ("secret", "My PASSWORD is hunter22x."),
    ("secret", '{"api_key": "abc123def456"}'),
    ("secret", "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG"),
]
NOT_FOUND = [
    ("email", "a @ b, pkg@1.2.3, @decorator, x@y, user@localhost, @property.setter"),
    ("card", "4111 1111 1111 1112"),
    ("card", "nanoseconds 1732203045123456789, ids 1234567890123 and 0000 0000 0000 0000"),
    ("iban", "DE89 3704 0044 0532 0130 01, XX89370400440532013000"),
    ("iban", "version AB12 of something else entirely"),
    ("ip", "127.0.0.1, 0.0.0.0, ::1, version 1.2.3, v1.2.3.4, 1.2.3.4.5, 999.1.1.1"),
    ("ip", "std::vector, at 12:30:45, a::b::c"),
    ("phone", "2024-01-02, 01.02.2024, 01-02-2024 12:30:00, 3.14159265358979, 1,000,000,000, 12345678901234"),
    ("secret", "the token: Optional[str], password = getpass(), token = self._fp.read(1)"),
    ("secret", "tokens: many of them, secret: none, sk-learn"),
    ("secret", "http://localhost:8080/a@b and https://example.org:443/x"),
    ("secret", "-----BEGIN PUBLIC KEY-----"),
]


def _finds(name: str, text: str) -> bool:
    (detector,) = make_detectors([name], (), ()).values()
    return detector(text)


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_it_is_found(name: str, text: str) -> None:
    assert _finds(name, text)
    assert _finds(name, f"First some words.\n{text}\nThen more.")


@pytest.mark.parametrize(("name", "text"), NOT_FOUND)
def test_other_things_are_not_mistaken_for_it(name: str, text: str) -> None:
    assert not _finds(name, text)


def test_every_detector_has_a_name_for_policies_and_one_for_people() -> None:
    assert set(DETECTORS) == set(DESCRIPTIONS)
    assert {name for name, _ in FOUND} == {name for name, _ in NOT_FOUND} == set(DETECTORS)


@given(st.integers(10**14, 10**15 - 1))
def test_of_ten_endings_one_makes_a_card_number(start: int) -> None:
    # Independent of the code: with any fifteen digits exactly one check digit is right.
    number = f"4{str(start)[1:]}"
    assert sum(_finds("card", f"{number}{digit}") for digit in range(10)) == 1


@given(st.integers(0, 10**18 - 1), st.integers(2, 98))
def test_of_all_check_digits_one_makes_an_account_number(number: int, guess: int) -> None:
    # ISO 7064: the check digits are 98 minus the rest of the account, with the country behind it, by 97.
    account = f"{number:018}"
    right = 98 - int(f"{account}131400") % 97
    assert _finds("iban", f"DE{right:02}{account}")
    assert _finds("iban", f"DE{guess:02}{account}") == (guess == right)


def test_own_words_and_patterns_count_and_are_not_shown() -> None:
    made = make_detectors((), ["Project Heron", "  "], [r"CASE-\d{6}", r"(?i)patient"])
    assert list(made) == ["a word of your list", "what your pattern 1 looks for", "what your pattern 2 looks for"]
    words, case, patient = made.values()
    assert words("About project heron.") and not words("Project Herons")
    assert case("CASE-123456") and not case("case-123456")
    assert patient("The PATIENT said") and not patient("patent")


def test_a_pattern_that_is_none_is_refused_by_number() -> None:
    with pytest.raises(ConfigurationError, match="Pattern 2 of `private_patterns`"):
        make_detectors((), (), ["a", "("])


@given(st.text(max_size=300))
def test_any_text_can_be_looked_at(text: str) -> None:
    for detector in make_detectors(DETECTORS, ["x"], [re.escape("y")]).values():
        assert detector(text) in (True, False)
