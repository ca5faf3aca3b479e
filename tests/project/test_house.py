from __future__ import annotations

import ast
import base64
import binascii
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from gatte_pipelines.settings import PREFIX, Settings

LOCKS = ("requirements-bootstrap.lock", "requirements.lock", "requirements-dev.lock")
# Put together here, since this file is read by its own tests.
INDEX_HOSTS = [
    ".".join(parts)
    for parts in (
        ("py" + "pi", "org"),
        ("py" + "thonhosted", "org"),
        ("npm" + "js", "org"),
        ("npm" + "js", "com"),
        ("registry.yarn" + "pkg", "com"),
        ("deb.deb" + "ian", "org"),
        ("conda." + "anaconda", "org"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w.$}~*])/(?:home|Users|root|work)/\w")

EMAIL = re.compile(r"[A-Za-z0-9][\w.+%-]*@(?P<domain>(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})")
# RFC 2606 and 6761: nobody can own an address there.
FICTITIOUS_DOMAIN = re.compile(r"(?:.*\.)?(?:example(?:\.(?:com|net|org))?|invalid|test|localhost)")

CPF_OR_CNPJ = re.compile(
    r"(?<!\d)(?:\d{3}\.\d{3}\.\d{3}-\d{2}|\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2})(?!\d)"
)
FICTITIOUS_DOCUMENT = re.compile(
    r"(\d)\1{2}\.\1{3}\.\1{3}-\d{2}|123\.456\.789-\d{2}|(?:00\.000\.000|12\.345\.678)/\d{4}-\d{2}"
)

SEPARATOR = r"[ ().\u00a0-]{0,2}"
PHONES = (
    # International: a plus and 8 to 15 digits, with or without separators.
    re.compile(r"(?<![\w+])\+[1-9](?:" + SEPARATOR + r"\d){7,14}(?![\d])"),
    # A wa_id of Brazil: 55, the area, eight or nine digits.
    re.compile(r"(?<![\w.+-])55[1-9]{2}9?\d{8}(?![\w-])"),
    # As people write it in Brazil.
    re.compile(r"(?<![\w+])\(\d{2}\) ?9?\d{4}-?\d{4}(?!\d)"),
    re.compile(r"(?<![\w.+/-])9\d{4}-\d{4}(?![\w-])"),
)
# Plainly made up. Brazil reserves no numbers for fiction, so: 0000 somewhere (as 90000-xxxx), or
# three equal digits before the last four (6000-1234, 3333-4444).
FICTITIOUS_PHONE = re.compile(
    r"\d*0000\d*"
    r"|55\d\d9?\d(\d)\1\1\d{4}"
    r"|1\d{3}555\d{4}"  # North America
    r"|447700900\d{3}"  # United Kingdom, Ofcom's numbers for drama
)
WAMID = re.compile(r"wamid\.([A-Za-z0-9+/_-]{16,}={0,2})")

# Files whose digits are no phones: hashes.
NOT_SCANNED = {*LOCKS}


@pytest.fixture(scope="module")
def texts(repository: Path) -> dict[str, str]:
    """Every text file of the project that is not ignored, by its path."""
    return dict(_read_texts(repository))


def _read_texts(repository: Path) -> Iterator[tuple[str, str]]:
    for name in _names(repository):
        path = repository / name
        if not path.is_file():
            continue  # deleted, and not committed yet
        try:
            yield name, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a picture or an archive


def _names(repository: Path) -> list[str]:
    git = shutil.which("git")
    if git and (repository / ".git").exists():
        listing = subprocess.run(
            [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=repository,
            check=False,
            capture_output=True,
        )
        if listing.returncode == 0:
            return [name for name in listing.stdout.decode().split("\0") if name]
    # An unpacked archive, or a checkout that belongs to somebody else.
    left_out = {".git", ".venv", ".gatte", "__pycache__"}
    return [
        str(path.relative_to(repository))
        for path in repository.rglob("*")
        if path.is_file()
        and not left_out & set(path.relative_to(repository).parts)
        and not any(part.endswith("_cache") for part in path.relative_to(repository).parts)
    ]


def phones_in(text: str) -> list[str]:
    """Digits of the phone-like strings of ``text`` that could be somebody's."""
    found = []
    for pattern in PHONES:
        for match in pattern.finditer(text):
            digits = re.sub(r"\D", "", match[0])
            if match[0][0] != "+" and len(digits) < 12:  # as people write it in Brazil
                digits = ("5511" if len(digits) == 9 else "55") + digits
            if not FICTITIOUS_PHONE.fullmatch(digits):
                found.append(digits)
    for match in WAMID.finditer(text):
        found += phones_in_wamid(match[1])
    return found


def phones_in_wamid(encoded: str) -> list[str]:
    """A provider's message id holds the phone in base64."""
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_")
    except (binascii.Error, ValueError):
        return []
    numbers = re.findall(r"\d{10,15}", decoded.decode("latin-1"))
    return [digits for digits in numbers if not FICTITIOUS_PHONE.fullmatch(digits)]


def emails_in(text: str) -> list[str]:
    """E-mail addresses of ``text`` that could be somebody's."""
    return [
        match[0]
        for match in EMAIL.finditer(text)
        if not FICTITIOUS_DOMAIN.fullmatch(match["domain"].lower())
    ]


def documents_in(text: str) -> list[str]:
    """CPF and CNPJ numbers of ``text`` that could be somebody's."""
    return [m[0] for m in CPF_OR_CNPJ.finditer(text) if not FICTITIOUS_DOCUMENT.fullmatch(m[0])]


def places(texts: dict[str, str], find: re.Pattern[str]) -> list[str]:
    """File and line of every match, without the text that matched."""
    return [
        f"{name}:{number}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if find.search(line)
    ]


# --- nothing of a person, a machine or an index -----------------------------------------------


def test_no_file_holds_a_personal_value(texts: dict[str, str]) -> None:
    searches = (("phone", phones_in), ("e-mail", emails_in), ("CPF or CNPJ", documents_in))
    found = [
        f"{name}:{number} ({what})"
        for name, text in texts.items()
        if name not in NOT_SCANNED
        for number, line in enumerate(text.splitlines(), start=1)
        for what, search in searches
        if search(line)
    ]
    assert not found, "use made-up values (+55 11 90000-xxxx, name@example.com)"


@pytest.mark.parametrize(
    "digits", ["5511987" + "651234", "551133" + "445567", "4915112" + "345678", "155187" + "34567"]
)
def test_the_scan_notices_a_phone_however_it_is_written(digits: str) -> None:
    assert phones_in(f"call +{digits} now")
    assert phones_in("+" + " ".join((digits[:2], digits[2:4], digits[4:8], digits[8:])))
    wamid = base64.b64encode(b"\x1d\x04" + digits.encode() + b"\x15\x02\x00\x12\x18").decode()
    assert phones_in(f'"id": "wamid.{wamid}"')


def test_the_scan_notices_a_brazilian_phone_without_a_plus() -> None:
    assert phones_in('"wa_id": "5511987' + '651234"')
    assert phones_in("(11) 98765" + "-1234")
    assert phones_in("ligue 98765" + "-1234")


@pytest.mark.parametrize(
    "text",
    [
        "+55 11 90000-0123",
        "5511900000123",
        "551190000123",
        "+1 202 555 0143",
        "2026-11-22T17:00:00+00:00",
        "1763830800",
        "9f2108c5-0000-4000-8000-123456789012",
    ],
)
def test_the_scan_passes_fictitious_numbers_and_numbers_that_are_no_phones(text: str) -> None:
    assert phones_in(text) == []


def test_the_scan_notices_an_email_address_and_a_cpf() -> None:
    assert emails_in("maria@" + "gmail.com")
    assert documents_in("CPF 529.982.247" + "-25")
    assert emails_in("ops@example.com, ops@gatte.example, x@sub.invalid") == []
    assert documents_in("000.000.000-00, 123.456.789-09") == []


def test_no_file_names_a_package_index(texts: dict[str, str]) -> None:
    find = re.compile("|".join(map(re.escape, INDEX_HOSTS)), re.IGNORECASE)
    assert places(texts, find) == []


def test_no_file_holds_a_path_of_one_machine(texts: dict[str, str]) -> None:
    assert places(texts, MACHINE_PATH) == []


# --- layers ------------------------------------------------------------------------------------


def test_only_flows_import_prefect(repository: Path) -> None:
    importers = [
        str(path.relative_to(repository))
        for path in (repository / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.split(".")[0].startswith("prefect") for name in _imported(node))
    ]
    assert importers == []


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_import_rules_hold(repository: Path) -> None:
    result = _lint_imports(repository)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("errors.py", "import gatte_pipelines.wiring", "A layer imports only from below itself"),
        ("phones.py", "import prefect", "Prefect stays in flows/"),
        ("phones.py", "import httpx", "Policies and libraries do no input or output"),
        ("database/engine.py", "import gatte_pipelines.settings", "Settings reach the code"),
        ("house_without_a_place.py", "x = 1", "A layer imports only from below itself"),
    ],
)
def test_the_import_rules_notice_a_violation(
    repository: Path, tmp_path: Path, module: str, line: str, broken: str
) -> None:
    shutil.copytree(
        repository / "src" / "gatte_pipelines",
        tmp_path / "src" / "gatte_pipelines",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(repository / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "gatte_pipelines" / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = _lint_imports(tmp_path)
    assert result.returncode != 0
    assert re.search(re.escape(broken) + ".* BROKEN", result.stdout), result.stdout + result.stderr


# --- locks, commands, settings -----------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_hashes(repository: Path, lock: str) -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (repository / lock).read_text("utf-8").strip())
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^\s;]+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_development_lock_holds_the_versions_of_the_runtime_lock(repository: Path) -> None:
    runtime, development = (
        dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (repository / lock).read_text("utf-8"), re.M))
        for lock in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime.items() <= development.items()


def test_the_locks_hold_every_declared_package(repository: Path) -> None:
    declared = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    locked = (repository / "requirements.lock").read_text("utf-8")
    for requirement in declared["project"]["dependencies"]:
        name = re.split(r"[\[=<>]", requirement)[0]
        assert re.search(rf"^{re.escape(name)}==", locked, re.M), f"{name}: run make lock"


def test_pre_commit_fetches_nothing(repository: Path) -> None:
    config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [item["repo"] for item in config["repos"]] == ["local"]
    assert {hook["language"] for item in config["repos"] for hook in item["hooks"]} == {"system"}


def test_ci_runs_the_commands_of_the_readme(repository: Path) -> None:
    script = (repository / ".ci" / "run").read_text("utf-8")
    readme = (repository / "README.md").read_text("utf-8")
    commands = re.findall(r"^make .*$", script, re.M)
    assert commands == ["make lint", "make test"]
    for command in commands:
        assert re.search(rf"^{command}\b", readme, re.M), f"README.md does not show {command}"


def test_the_readme_names_only_targets_that_exist(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (repository / "README.md").read_text(), re.M))
    assert named <= targets


def test_readme_and_env_example_name_every_setting(repository: Path) -> None:
    names = {f"{PREFIX}{item.name.upper()}" for item in fields(Settings)}
    example = (repository / ".env.example").read_text("utf-8")
    assert set(re.findall(r"^#?\s?(GATTE_[A-Z_]+)=", example, re.M)) == names
    readme = (repository / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(GATTE_[A-Z_]+)`", readme, re.M)) == names


def test_decisions_are_numbered_without_gaps_or_repeats(repository: Path) -> None:
    names = sorted(path.name for path in (repository / "docs" / "decisions").glob("*.md"))
    numbers = [int(name.split("-")[0]) for name in names]
    assert numbers == list(range(1, len(names) + 1))
