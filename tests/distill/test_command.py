"""`kdaudit distill` from end to end: every way to learn gives a checkpoint that loads and can be audited."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdaudit.records.sets import keyed_ids
from tests import tiny
from tests.commands import NAMES, check_refused, files_in, read_texts, results
from tests.distill.students import Recipe, manifest_of

WAYS: dict[str, tuple[object, ...]] = {
    "forward-kl": ("--temperature", 2),
    "reverse-kl": ("--objective", "reverse-kl", "--hard-weight", 0),
    "jsd": ("--objective", "jsd", "--beta", 0.3),
    "skew-kl": ("--objective", "skew-kl"),
    "hard": ("--objective", "hard", "--label-smoothing", 0.1),
    "on-policy": ("--on-policy", 0.5),
    "sequence-level": ("--sequence-level",),
    "hidden-states": ("--hidden-weight", 0.5),
    "linear-schedule": ("--schedule", "linear", "--warmup", 0.3, "--weight-decay", 0),
    "checkpointing": ("--gradient-checkpointing", "--gradient-accumulation", 2),
    "bfloat16": ("--dtype", "bfloat16"),
    "4bit-teacher": ("--teacher-load", "4bit"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_learn_gives_a_plain_checkpoint_that_can_be_audited(
    way: str, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "student"
    done = recipe.distill(out, *WAYS[way])
    assert done.code == 0, done.err
    assert "Held-out utility" in done.out
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    AutoTokenizer.from_pretrained(out)
    start = load_file(recipe.start / "model.safetensors")
    trained = load_file(out / "model.safetensors")
    assert trained.keys() == start.keys()
    assert max(float((trained[name] - start[name]).abs().max()) for name in start) > 1e-4
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert not (out / "training").exists()
    audited = recipe.attack(out, tmp_path / "run", "--attack", "reference")
    assert audited.code == 0, audited.err
    found = results(tmp_path / "run")
    assert (found["data"]["members"], found["data"]["nonmembers"]) == (48, 12)
    assert found["attacks"]["reference"]["student"]["status"] == "ok"
    assert found["models"]["student"]["distillation"]["utility"] == manifest_of(out)["utility"]


@pytest.mark.parametrize("options", [("--lora", 2), ("--lora", 2, "--student-load", "4bit")])
def test_an_adapter_is_saved_alone_and_audited_on_its_start(
    options: tuple[object, ...], recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "student"
    done = recipe.distill(out, *options)
    assert done.code == 0, done.err
    assert (out / "adapter_model.safetensors").is_file()
    assert not (out / "model.safetensors").exists()
    changed = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
    assert changed == sorted(changed), "else the order is another one in every process"
    adapter = load_file(out / "adapter_model.safetensors")
    assert any(float(weight.abs().max()) > 0 for name, weight in adapter.items() if "lora_B" in name)
    load = ("--student-load", "4bit") if "--student-load" in options else ()
    audited = recipe.attack(out, tmp_path / "run", "--attack", "reference", *load)
    assert audited.code == 0, audited.err
    assert results(tmp_path / "run")["attacks"]["reference"]["student"]["status"] == "ok"


def test_layers_of_the_teacher_are_a_start(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "student"
    done = recipe.distill(out, start=("--student-layers", "1"))
    assert done.code == 0, done.err
    start, teacher = (load_file(path / "model.safetensors") for path in (out / "start", recipe.teacher))
    assert torch.equal(start["transformer.h.0.mlp.c_fc.weight"], teacher["transformer.h.1.mlp.c_fc.weight"])
    assert torch.equal(start["transformer.wte.weight"], teacher["transformer.wte.weight"])
    assert AutoModelForCausalLM.from_pretrained(out).config.n_layer == 1
    moved = shutil.move(out, tmp_path / "elsewhere")  # the start goes with its student
    audited = recipe.attack(Path(moved), tmp_path / "run", "--attack", "reference")
    assert audited.code == 0, audited.err
    assert results(tmp_path / "run")["models"]["student"]["reference"]["name"].endswith("elsewhere/start")


def test_layers_of_a_teacher_that_may_have_seen_the_members_are_no_reference(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "student"
    done = recipe.distill(out, "--teacher-saw", "train", start=("--student-layers", "0,1"))
    assert done.code == 0, done.err
    audited = recipe.attack(out, tmp_path / "run")
    assert audited.code == 0, audited.err
    assert results(tmp_path / "run")["models"]["student"]["reference"] is None
    assert "so it has no reference model" in audited.out


def test_random_weights_are_a_start(recipe: Recipe, tmp_path: Path) -> None:
    out, path = tmp_path / "student", tmp_path / "own.json"
    tiny.config("llama").to_json_file(path, use_diff=False)
    done = recipe.distill(out, start=("--student-config", path))
    assert done.code == 0, done.err
    assert AutoModelForCausalLM.from_pretrained(out).config.model_type == "llama"


@pytest.mark.parametrize("top_k", [4, 300])
def test_a_cached_teacher_is_not_needed_again(
    top_k: int, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = ("--teacher-cache", tmp_path / "cache", "--teacher-top-k", top_k)
    assert recipe.distill(tmp_path / "one", *cached).code == 0
    monkeypatch.setattr("kdaudit.distill.cache._top", lambda *_: pytest.fail("the teacher was asked again"))
    assert recipe.distill(tmp_path / "two", *cached).code == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    monkeypatch.undo()
    assert recipe.distill(tmp_path / "live").code == 0
    live = load_file(tmp_path / "live" / "model.safetensors")
    gap = max(float((one[name] - live[name]).abs().max()) for name in one)
    assert gap < 1e-5 if top_k == 300 else gap > 1e-5


def test_prompts_and_chats_are_learnt_and_scored_by_their_answers(recipe: Recipe, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for name, text in read_texts(recipe.train).items():
        words = text.split()
        if len(rows) % 2:
            rows.append({"id": name, "prompt": " ".join(words[:3]), "completion": " " + " ".join(words[3:])})
        else:
            said = [{"role": "user", "content": " ".join(words[:3])}, {"role": "assistant", "content": text}]
            rows.append({"id": name, "messages": said})
    recipe.train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    teacher = Path(shutil.copytree(recipe.teacher, tmp_path / "teacher"))
    settings = json.loads((teacher / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    (teacher / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    chatty = Recipe(teacher, recipe.start, recipe.train)
    done = chatty.distill(tmp_path / "student")
    assert done.code == 0, done.err
    audited = chatty.attack(tmp_path / "student", tmp_path / "run")
    assert audited.code == 0, audited.err
    check_refused(recipe.distill(tmp_path / "plain"), "no chat template", "prompt and completion")


def test_the_folder_is_no_membership_list(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "student"
    assert recipe.distill(out, "--keep-epochs").code == 0
    key = (tmp_path / "train.jsonl.kdaudit-key").read_text(encoding="ascii").strip()
    own = read_texts(recipe.train)
    forbidden = [key, *(f'"{name}"' for name in own), *keyed_ids(list(own.values())), *NAMES]
    shown = {name: data.decode("utf-8", "ignore") for name, data in files_in(out).items() if "token" not in name}
    assert not [(name, word) for name, text in shown.items() for word in forbidden if word in text]
    assert str(tmp_path) not in shown["README.md"]
    data = manifest_of(out)["data"]
    assert (len(data["members"]), len(data["held_out"])) == (48, 12)
    assert not set(data["members"]) & set(data["held_out"])
    assert (out / "epochs" / "1" / "model.safetensors").is_file()


def test_the_manifest_may_lie_elsewhere(recipe: Recipe, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "student", tmp_path / "private" / "m.json"
    assert recipe.distill(out, "--manifest-out", elsewhere, "--key-file", tmp_path / "private" / "key").code == 0
    assert not (out / "kdaudit.json").exists()
    assert not (tmp_path / "train.jsonl.kdaudit-key").exists()
    check_refused(recipe.attack(out, tmp_path / "run"), "no records", "--manifest FILE")
    done = recipe.attack(out, tmp_path / "run", "--manifest", elsewhere)
    assert done.code == 0, done.err


def test_a_finished_student_is_not_trained_again(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "student"
    assert recipe.distill(out).code == 0
    before = files_in(out)
    again = recipe.distill(out)
    assert again.code == 0, again.err
    assert files_in(out) == before
    check_refused(recipe.distill(out, "--seed", 1), "seed was 0 and is now 1", "--overwrite")
    (out / "model.safetensors").write_bytes((recipe.start / "model.safetensors").read_bytes())
    check_refused(recipe.distill(out), "not those that its manifest describes")
    assert recipe.distill(out, "--overwrite").code == 0
    assert files_in(out)["model.safetensors"] == before["model.safetensors"]


def refusals() -> dict[str, tuple[tuple[object, ...], tuple[object, ...] | None, tuple[str, ...]]]:
    return {
        "a layer that is not there": ((), ("--student-layers", "0,9"), ("no layer 9", "layers 0 to 1")),
        "layers out of order": ((), ("--student-layers", "1,0"), ("not in rising order",)),
        "no layer number": ((), ("--student-layers", "a"), ("not a list of layer numbers",)),
        "no start": ((), (), ("give one start",)),
        "an empty hold-out": (("--holdout", 0), None, ("no record is held out", "--nonmembers")),
        "all held out": (("--holdout", "1.0"), None, ("all 60 records are held out",)),
        "a window too large": (("--max-tokens", 999), None, ("999 is more than", "at most 128")),
        "no such file": (("--nonmembers", "nowhere.jsonl"), None, ("no such file",)),
        "beta without use": (("--beta", 0.5), None, ("forward-kl has no beta",)),
        "float16 on a CPU": (("--dtype", "float16"), None, ("float16 does not train on a CPU",)),
        "nothing to resume": (("--resume",), None, ("holds no unfinished run",)),
        "an unknown logger": (("--report-to", "smoke-signals"), None, ("--report-to", "smoke-signals")),
    }


@pytest.mark.parametrize("case", refusals())
def test_bad_input_is_one_clear_message(case: str, recipe: Recipe, tmp_path: Path) -> None:
    options, start, words = refusals()[case]
    check_refused(recipe.distill(tmp_path / "student", *options, start=start), *words)


def test_another_tokenizer_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    other = tiny.save(tmp_path / "other", seed=5, tokenizer_seed=3, context=128)
    check_refused(
        recipe.distill(tmp_path / "student", start=("--student", other)), "different tokenizers", "tokens differ"
    )


def test_padded_vocabularies_are_cut_with_a_note(recipe: Recipe, tmp_path: Path) -> None:
    padded = tmp_path / "padded"
    tiny.model(seed=5, vocabulary=320, context=128).save_pretrained(padded)
    tiny.tokenizer().save_pretrained(padded)
    out = tmp_path / "student"
    done = recipe.distill(out, start=("--student", padded))
    assert done.code == 0, done.err
    assert manifest_of(out)["training"]["vocabulary"] == tiny.VOCABULARY
    assert "last 20 logits are padding" in " ".join(manifest_of(out)["training"]["notes"])


def test_a_folder_of_something_else_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("mine", encoding="utf-8")
    check_refused(recipe.distill(out), "holds no student of an earlier run")
    assert list(files_in(out)) == ["thesis.tex"]


def test_longer_records_are_cut_and_counted(recipe: Recipe, tmp_path: Path) -> None:
    done = recipe.distill(tmp_path / "student", "--max-tokens", 8)
    assert done.code == 0, done.err
    training: dict[str, Any] = manifest_of(tmp_path / "student")["training"]
    assert training["cut"] == 48
    assert "48 of 48 members are longer than 8 tokens: cut" in training["notes"]
