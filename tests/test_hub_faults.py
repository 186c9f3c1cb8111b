"""What goes wrong on the way to a Hub: one line each, nothing half-done."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.dataset import NAME
from pipeline.errors import RemoteError
from pipeline.hub import hub_errors
from pipeline.prepare import prepare_dataset
from tests.hub import READER, TOKEN, USERS, Repo
from tests.hub_client import Ask, Client, ok, only_line, published_files, slow


@slow
def test_an_upload_that_is_cut_off_is_resumed(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", 400)]
    told = only_line(client.publish(digits_dataset, "me/data"))
    assert "it refuses the request (status 400" in told
    assert published_files(hub, "me/data") == set()
    hub.asked.clear()
    ok(client.publish(digits_dataset, "me/data"))
    assert 1 <= hub.count("PUT /lfs") < 3
    assert len(published_files(hub, "me/data")) == 5


@slow
def test_a_publish_that_is_killed_is_resumed(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", -1)]
    command = [sys.executable, "-m", "pipeline", "publish", str(digits_dataset), "me/data"]
    with subprocess.Popen(command, env=client.environment(TOKEN)) as process:
        assert hub.silent.wait(60)
        process.kill()
    assert published_files(hub, "me/data") == set()
    assert "published" in ok(client.publish(digits_dataset, "me/data")).stdout
    assert len(published_files(hub, "me/data")) == 5
    assert not list((client.home / ".cache" / "shardwell" / "publish").glob("[!.]*"))


@slow
def test_a_network_that_is_lost_for_good_is_one_line(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", -1)]
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(client.publish, digits_dataset, "me/data")
        assert hub.silent.wait(60)
        hub.faults = [("", 0)] * 999  # from here on nothing is answered
        hub.go_on.set()
        told = only_line(publishing.result())
    assert "the line was cut; run the same command again" in told
    hub.faults.clear()
    assert published_files(hub, "me/data") == set()
    assert not list((client.home / ".cache" / "shardwell" / "publish").glob("[!.]*"))
    ok(client.publish(digits_dataset, "me/data"))
    assert len(published_files(hub, "me/data")) == 5


@slow
def test_a_busy_hub_and_a_cut_line_are_waited_for(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", 503), (r"PUT /lfs", 0), (r"POST .*/commit/", 429)]
    assert "published" in ok(client.publish(digits_dataset, "me/data")).stdout
    assert hub.faults == []
    assert len(hub.repos["me/data"].commits) == 2


@slow
def test_a_commit_that_is_cut_off_is_made_again(client: Client, digits_dataset: Path) -> None:
    client.hub.faults = [(r"POST .*/commit/", 0)]
    told = only_line(client.publish(digits_dataset, "me/data"))
    assert "the line was cut; run the same command again" in told
    assert published_files(client.hub, "me/data") == set()
    client.hub.asked.clear()
    ok(client.publish(digits_dataset, "me/data"))
    assert not client.hub.count("PUT /lfs")
    assert len(published_files(client.hub, "me/data")) == 5


@slow
def test_somebody_else_commits_meanwhile(client: Client, digits_dataset: Path) -> None:
    client.hub.faults = [(r"POST .*/commit/", 412)]
    told = only_line(client.publish(digits_dataset, "me/data"))
    assert "somebody else changed it meanwhile; run the same command again" in told
    assert published_files(client.hub, "me/data") == set()


MEANWHILE = """
import sys
from pathlib import Path
from huggingface_hub import HfApi
from pipeline.errors import ShardwellError
from pipeline.publish.run import Publication, publish
from pipeline.publish.upload import Target

def somebody_else(plan):
    api = HfApi()
    api.create_repo("me/data", repo_type="dataset", exist_ok=True)
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="tokens/notes.txt", repo_id="me/data",
                    repo_type="dataset")

wanted = Publication([Path(sys.argv[1])], Target("me/data"), cache=Path(sys.argv[2]))
try:
    publish(wanted, lambda done: None, somebody_else)
except ShardwellError as error:
    raise SystemExit(f"shardwell: {error}") from None
"""


@slow
@pytest.mark.parametrize(
    ("there_before", "message"),
    [
        (True, "somebody else changed it meanwhile; run the same command again"),
        (False, "holds files that shardwell has not published (tokens/notes.txt)"),
    ],
)
def test_what_somebody_else_commits_while_we_prove_stays(
    there_before: bool, message: str, client: Client, digits_dataset: Path
) -> None:
    if there_before:
        ok(client.publish(digits_dataset, "me/data"))
    before = published_files(client.hub, "me/data") if there_before else set()
    done = client.run("-c", MEANWHILE, str(digits_dataset), str(client.home / "cache"))
    assert message in only_line(done)
    assert published_files(client.hub, "me/data") == {*before, "tokens/notes.txt"}


@slow
def test_a_changed_dataset_replaces_the_old_one(client: Client, ask_digits: Ask) -> None:
    hub, first = client.hub, prepare_dataset(ask_digits(protocol="len-5")).folder
    second = prepare_dataset(ask_digits(protocol="len-10")).folder
    ok(client.publish(first, "me/data"))
    ok(client.publish(second, "me/data", "--split", "train"))
    files = {"README.md", f"tokens/{NAME}", "tokens/train-00000-of-00001.parquet"}
    assert published_files(hub, "me/data") == files
    assert len(hub.repos["me/data"].commits) == 3


@slow
def test_private_is_private(client: Client, digits_dataset: Path) -> None:
    ok(client.publish(digits_dataset, "me/open"))
    ok(client.publish(digits_dataset, "me/open", "--private"))  # from now on
    ok(client.publish(digits_dataset, "me/data", "--private"))
    for name in ("me/open", "me/data"):
        assert client.hub.repos[name].private
        told = only_line(client.shardwell("pull", name, token=None))
        assert "it is private and not yours" in told
        code = f"import datasets; datasets.load_dataset({name!r}, revision='main')"
        refused = client.run("-c", code, token=None)
        assert refused.returncode == 1
        assert "DatasetNotFoundError" in refused.stderr
        ok(client.run("-c", code))


WRONG = {
    "no token": ("me/x", None, "no token; log in with: hf auth login, or set HF_TOKEN"),
    "wrong token": ("me/x", "hf_wrong0123456789", "it doesn't know this token"),
    "broken token": ("me/x", "hf_wrong\t0123456789", "the token holds blanks"),
    "no right": ("other/x", TOKEN, "this token may write to me, not to other"),
    "reader": ("you/x", READER, "this token may only read; take one that may write"),
    "model": ("me/model", TOKEN, "the name is taken by what is no dataset; take another"),
    "not ours": ("me/own", TOKEN, r"files that shardwell has not published (data.csv)"),
}


@slow
@pytest.mark.parametrize("name", WRONG)
def test_a_hub_that_refuses_is_one_line(name: str, client: Client, digits_dataset: Path) -> None:
    where, token, message = WRONG[name]
    hub = client.hub
    hub.repos["me/model"] = Repo("model", False)
    hub.repos["me/own"] = Repo("dataset", False)
    hub.repos["me/own"].commit({"data.csv": hub.file(b"1,2\n", False)}, "main")
    done = client.publish(digits_dataset, where, token=token)
    assert message in only_line(done)
    for known in (*USERS, token or TOKEN, "wrong0123"):
        assert known not in done.stderr + done.stdout
    assert published_files(hub, "me/own") == {"data.csv"}
    assert not hub.count("PUT|POST .*(commit|preupload)")


@slow
def test_what_is_wrong_here_is_one_line(client: Client, ask_digits: Ask, tmp_path: Path) -> None:
    folder = Path(prepare_dataset(ask_digits()).folder)
    told = only_line(client.publish(folder, "me/x", "--endpoint", "http://127.0.0.1:9"))
    assert "the Hub can't be reached" in told
    told = only_line(client.publish(folder, "me/x", HF_HUB_DISABLE_XET="0"))
    assert "this Hub has no Xet; set HF_HUB_DISABLE_XET=1" in told
    assert published_files(client.hub, "me/x") == set()
    ok(client.publish(folder, "me/x"))
    ok(client.shardwell("pull", "me/x", "--out", tmp_path / "pulled", HF_HUB_DISABLE_XET="0"))
    assert "expected a sealed dataset" in only_line(client.publish(tmp_path, "me/y"))
    assert "expected user/name" in only_line(client.publish(folder, "me"), 2)
    path = folder / "train-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[::-1])
    assert "expected sha256" in only_line(client.publish(folder, "me/y"))
    assert "me/y" not in client.hub.repos


@slow
def test_a_hub_that_refuses_to_make_it(client: Client, digits_dataset: Path) -> None:
    client.hub.faults = [(r"POST /api/repos/create", 403)]
    told = only_line(client.publish(digits_dataset, "me/x"))
    assert "this token may not do that there" in told
    assert not client.hub.repos


@slow
def test_a_licence_that_is_not_known_to_allow_it(client: Client, ask_phrases: Ask) -> None:
    folder = Path(prepare_dataset(ask_phrases()).folder)
    told = only_line(client.publish(folder, "me/x"), 2)
    assert "the licence is 'CC0-1.0', passing it on is unknown" in told
    assert "--i-may-redistribute" in told
    assert not client.hub.asked
    done = ok(client.publish(folder, "me/x", "--dry-run"))
    assert "publishing it takes --i-may-redistribute" in done.stdout


FULL = """
import resource
from pipeline.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
raise SystemExit(main())
"""


@slow
def test_a_full_disk_leaves_nothing(client: Client, ask_commands: Ask) -> None:
    folder, out = Path(prepare_dataset(ask_commands()).folder), client.home / "out"
    given = "--i-may-redistribute", "--cache", str(out)

    def refused(*command: str) -> None:
        told = only_line(client.run("-c", FULL, *command))
        assert str(out.parent) in told
        assert "File too large" in told

    refused("export", str(folder), "--out", str(out))
    assert [path.name for path in client.home.glob(".*out*")] == [".out.lock"]
    refused("publish", str(folder), "me/data", *given)
    assert not client.hub.repos
    assert not list(out.glob("publish/[!.]*"))
    ok(client.publish(folder, "me/data", *given))
    pull = "pull", "me/data", "--out", str(out / "pulled")
    refused(*pull)
    assert not [*out.rglob(NAME), *out.rglob("*.part")]
    ok(client.shardwell(*pull))


def test_no_error_shows_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(RemoteError) as caught, hub_errors("http://hub"):
        raise ValueError(f"Illegal header value\nb'Bearer {TOKEN}'")
    assert str(caught.value) == "http://hub: Illegal header value b'Bearer (token)'"
    assert caught.value.__suppress_context__
