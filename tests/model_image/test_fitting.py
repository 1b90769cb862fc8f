"""Many architectures of transformers through one engine: computed packed as alone, or refused, or padded."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model_image.batching.encoder_loop import EncoderInput
from model_image.batching.regions import Region
from model_image.batching.scheduler import Chunk
from model_image.batching.sequence import Sampling, Sequence
from model_image.engines.fitting import fit_encoder, fit_generation
from model_image.engines.linear import Int8Linear, PackedLinear, TanhGelu
from model_image.engines.load import load
from model_image.errors import ArtefactError

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "vocab_size": 211, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
SAMPLE = [(7 * place) % 200 + 5 for place in range(40)]


def made(kind: str, **config: Any) -> Any:
    torch.manual_seed(1)
    model: Any = getattr(transformers, kind)
    return model(model.config_class(**config)).eval()


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("MistralForCausalLM", {**SMALL, "num_key_value_heads": 2, "sliding_window": 6}),
        ("Qwen2ForCausalLM", {**SMALL, "num_key_value_heads": 2}),
        ("Qwen3ForCausalLM", {**SMALL, "num_key_value_heads": 1, "head_dim": 16}),
        ("GPTNeoXForCausalLM", SMALL),
        ("Phi3ForCausalLM", {**SMALL, "num_key_value_heads": 4, "pad_token_id": 0}),
        ("Olmo2ForCausalLM", {**SMALL, "num_key_value_heads": 2}),
        ("Gemma3ForCausalLM", {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 8}),
    ],
)
def test_a_causal_model_is_stepped_as_it_computes_alone(kind: str, config: dict[str, Any]) -> None:
    model = made(kind, **config)
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([SAMPLE]), use_cache=False).logits[0, -1]

    engine, _ = fit_generation(model, name=kind, weights="float32", cache_tokens=256, sample=SAMPLE)

    text = Sequence(
        prompt=SAMPLE, max_new_tokens=1, sampling=Sampling(), stop_tokens=frozenset(), on_progress=lambda _: None,
        region=Region(100, 64),
    )  # fmt: skip
    for start, count in ((0, 17), (17, 1), (18, 20), (38, 2)):
        logits = engine.logits([Chunk(text, start, count, samples=True)])
    assert float((logits[-1] - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Gemma2ForCausalLM", {**SMALL, "num_key_value_heads": 2, "head_dim": 16}),
        ("BloomForCausalLM", {"vocab_size": 211, "hidden_size": 48, "n_layer": 2, "n_head": 4}),
        ("MambaForCausalLM", {"vocab_size": 211, "hidden_size": 48, "num_hidden_layers": 2}),
        # Their windows are in the mask alone, which a model whose attention was exchanged does not make.
        (
            "Qwen2MoeForCausalLM",
            {
                **SMALL,
                "num_key_value_heads": 2,
                "use_sliding_window": True,
                "sliding_window": 32,
                "layer_types": ["sliding_attention"] * 2,
            },
        ),
        ("Llama4ForCausalLM", {**SMALL, "num_key_value_heads": 2, "head_dim": 12, "attention_chunk_size": 32}),
    ],
)
def test_a_causal_model_that_cannot_be_batched_is_refused(kind: str, config: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match=kind):
        fit_generation(made(kind, **config), name=kind, weights="float32", cache_tokens=256, sample=SAMPLE)


ENCODERS = [
    ("BertModel", {**SMALL, "pad_token_id": 0}, "embeddings", True),
    ("RobertaModel", {**SMALL, "pad_token_id": 1}, "embeddings", True),
    ("RobertaForSequenceClassification", {**SMALL, "pad_token_id": 1}, "classification", True),
    ("XLMRobertaForMaskedLM", {**SMALL, "pad_token_id": 1}, "masks", True),
    ("ElectraForSequenceClassification", {**SMALL, "pad_token_id": 0}, "classification", True),
    ("BertForMaskedLM", {**SMALL, "pad_token_id": 0}, "masks", True),
    ("DebertaV2ForSequenceClassification", {**SMALL, "relative_attention": True}, "classification", False),
]


@pytest.mark.parametrize(("kind", "config", "result", "packed"), ENCODERS)
def test_an_encoder_computes_in_company_what_it_computes_alone(
    kind: str, config: dict[str, Any], result: str, packed: bool
) -> None:
    model = made(kind, **config)
    texts = [EncoderInput(SAMPLE[: 3 + 9 * place], (1, 2)) for place in range(4)]
    with torch.inference_mode():
        alone = []
        for text in texts:
            output = model(input_ids=torch.tensor([text.tokens]))
            row = output.last_hidden_state[0] if result == "embeddings" else output.logits[0]
            alone.append(row[list(text.places)] if result == "masks" else row)

    forward, _ = fit_encoder(
        model, kinds=(result,), weights="float32", pad=config.get("pad_token_id", 0), sample=SAMPLE
    )

    assert forward.packed is packed
    compute = {"embeddings": forward.hidden, "classification": forward.classify, "masks": forward.at_places}[result]
    with torch.inference_mode():
        together = list(compute(texts))
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_int8_rows_do_not_depend_on_their_company() -> None:
    torch.manual_seed(2)
    linear = torch.nn.Linear(320, 512)
    rounded = Int8Linear(linear.weight.detach(), linear.bias.detach())
    rows = torch.randn(9, 320) * torch.logspace(-3, 3, 9)[:, None]

    together = rounded(rows)

    assert torch.equal(together, torch.cat([rounded(row[None]) for row in rows]))
    exact = linear(rows).detach()
    assert float(((together - exact).norm(dim=1) / exact.norm(dim=1)).max()) < 0.02
    assert torch.equal(rounded(torch.zeros(1, 320)), linear.bias.detach()[None])


def test_int8_fits_processors_that_add_pairs_of_products_in_16_bits() -> None:
    """Such as those without VNNI, which FBGEMM can be told to be on: sums of large numbers must not overflow there."""
    code = (
        "import torch\nfrom model_image.engines.linear import Int8Linear\n"
        "print(float(Int8Linear(torch.ones(256, 256), None)(torch.ones(1, 256))[0, 0]))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert float(run.stdout) == pytest.approx(256, rel=0.01)


def test_packed_linear_layers_compute_the_same() -> None:
    torch.manual_seed(2)
    linear = torch.nn.Linear(48, 31, bias=False)
    rows = torch.randn(5, 7, 48)

    assert torch.allclose(PackedLinear(linear.weight.detach(), None)(rows), linear(rows), atol=1e-6)


def test_the_faster_gelu_is_gelu() -> None:
    numbers = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, 0.0, 1e4])])

    expected = torch.nn.functional.gelu(numbers, approximate="tanh")
    assert torch.allclose(TanhGelu()(numbers), expected, atol=1e-6, rtol=1e-6)


def test_int8_says_what_it_changed_and_changes_little() -> None:
    config = {**SMALL, "hidden_size": 128, "intermediate_size": 512, "num_key_value_heads": 4, "initializer_range": 0.1}
    model = made("LlamaForCausalLM", **config)

    _, quality = fit_generation(model, name="llama", weights="int8", cache_tokens=256, sample=SAMPLE)

    assert quality.keys() == {"perplexity_float32", "perplexity_int8"}
    assert quality["perplexity_int8"] != quality["perplexity_float32"]
    assert quality["perplexity_int8"] == pytest.approx(quality["perplexity_float32"], rel=0.1)


def directory_of(kind: str, tokenizer_of: Path, directory: Path, **config: Any) -> Path:
    """A model beside the tokenizer of another artefact."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.save_pretrained(directory)
    made(kind, **{**SMALL, **config, "vocab_size": len(tokenizer)}).save_pretrained(directory)
    return directory


def test_a_token_the_model_does_not_have_is_refused_before_anyone_can_send_it(
    artefacts: dict[str, Path], tmp_path: Path
) -> None:
    directory = directory_of("GPTNeoXForCausalLM", artefacts["gpt2"], tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["[PAD]"], special_tokens=True)
    tokenizer.save_pretrained(directory)

    with pytest.raises(ArtefactError, match="has a tokenizer with ids up to"):
        load(directory, architecture="GPTNeoXForCausalLM", tasks=("completions",))


def test_positions_that_begin_later_leave_less_context(artefacts: dict[str, Path], tmp_path: Path) -> None:
    directory = directory_of("RobertaModel", artefacts["gpt2"], tmp_path / "model", pad_token_id=1)

    loaded = load(directory, architecture="RobertaModel", tasks=("embeddings",))

    assert loaded.context_length == SMALL["max_position_embeddings"] - 2
    longest = EncoderInput(list(range(5, 5 + loaded.context_length)))
    assert len(loaded.engines["embeddings"].run([longest])) == 1


def test_a_context_ends_where_frequencies_would_change_for_every_text(
    artefacts: dict[str, Path], tmp_path: Path
) -> None:
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 6, "long_factor": [4.0] * 6,
        "original_max_position_embeddings": 32, "factor": 2.0,
    }  # fmt: skip
    directory = directory_of(
        "Phi3ForCausalLM", artefacts["gpt2"], tmp_path / "model",
        num_key_value_heads=4, pad_token_id=0, original_max_position_embeddings=32, rope_parameters=rope,
    )  # fmt: skip

    assert load(directory, architecture="Phi3ForCausalLM", tasks=("completions",)).context_length == 32
