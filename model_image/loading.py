"""From the settings to models that answer: bring, verify, load, try once, and only then serve."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_image.artefacts import Manifest
from model_image.batching.encoder_batches import BatchLimits
from model_image.batching.encoder_loop import EncoderInput, EncoderLoop
from model_image.batching.generation_loop import Deliveries, GenerationLoop
from model_image.batching.scheduler import Limits, Scheduler
from model_image.batching.turns import Turns
from model_image.bring import bring_one, s3_client
from model_image.metrics import Meter, Metrics
from model_image.promotions import with_promotions
from model_image.registry import GENERATIVE_TASKS, Registry, ServedModel
from model_image.request_log import JsonLog
from model_image.settings import ModelSetting, Settings
from model_image.tasks.generation import Ask, generate
from model_image.tasks.texts import compute

if TYPE_CHECKING:
    from model_image.engines.load import Loaded

_RUNNING = 32
_PREFILL_TOKENS = 128
_BATCH_TOKENS = 512
_PADDING = 0.15
_MIB = 1 << 20


class Loader:
    """Loads the models of the settings one after the other into a registry; imports torch on the way, not before."""

    def __init__(
        self,
        *,
        settings: Settings,
        registry: Registry,
        metrics: Metrics,
        log: JsonLog,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        """`on_crash` is called, in any thread, with a fault that leaves a model without its loop."""
        self._settings = settings
        self._registry = registry
        self._metrics = metrics
        self._log = log
        self._on_crash = on_crash
        self._turns = Turns()
        self._event_loop = asyncio.get_running_loop()

    async def load_all(self) -> None:
        """Fills the registry and marks it ready. Raises ModelImageError naming the model that is missing or broken."""
        bringing = asyncio.create_task(self._bring_all())
        await asyncio.to_thread(self._import_engines)
        brought = await bringing
        for setting, (directory, manifest) in zip(self._settings.models, brought, strict=True):
            began = time.monotonic()
            loaded = await asyncio.to_thread(self._load, setting, directory, manifest)
            model = self._served(setting, manifest, loaded)
            await self._try_once(model)
            self._registry.add(model)
            seconds = time.monotonic() - began
            self._metrics.model_load.labels(model.name).set(seconds)
            for entry in manifest.files:
                if entry.path.endswith(".safetensors"):
                    self._metrics.weights_digest.labels(model.name, entry.sha256).set(1)
            self._log.write(
                "model_loaded",
                model=model.name,
                version=model.version,
                seconds=round(seconds, 3),
                weights=setting.weights,
                packed=loaded.packed,
            )
            for name, number in loaded.quality.items():
                self._log.write("weights_rounded", model=model.name, measure=name, value=number)
        self._registry.ready = True

    def _import_engines(self) -> None:
        from model_image.engines.load import prepare_torch  # noqa: PLC0415  (seconds; /health must not wait for it)

        prepare_torch(threads=self._settings.threads)

    async def _bring_all(self) -> list[tuple[Path, Manifest]]:
        settings = self._settings = await asyncio.to_thread(with_promotions, self._settings)
        client = await asyncio.to_thread(s3_client, settings)
        return [await asyncio.to_thread(bring_one, settings, setting, client=client) for setting in settings.models]

    def _load(self, setting: ModelSetting, directory: Path, manifest: Manifest) -> "Loaded":
        from model_image.engines.load import load  # noqa: PLC0415  (see _import_engines)

        return load(
            directory,
            architecture=manifest.architecture,
            tasks=setting.tasks,
            weights=setting.weights,
            cache_bytes=None if self._settings.kv_cache_mb is None else self._settings.kv_cache_mb * _MIB,
            share=1 / max(1, sum(bool(set(GENERATIVE_TASKS) & set(other.tasks)) for other in self._settings.models)),
            most_running=_RUNNING,
        )

    def _served(self, setting: ModelSetting, manifest: Manifest, loaded: "Loaded") -> ServedModel:
        return ServedModel(
            name=setting.name,
            version=setting.version,
            tasks=setting.tasks,
            created=int(manifest.created.timestamp()),
            context_length=loaded.context_length,
            vocabulary=loaded.vocabulary,
            tokenizer=loaded.tokenizer,
            stop_tokens=loaded.stop_tokens,
            labels=loaded.labels,
            generation=self._generation_loop(setting.name, loaded),
            embeddings=self._encoder_loop(setting.name, loaded, "embeddings"),
            classification=self._encoder_loop(setting.name, loaded, "classification"),
            masks=self._encoder_loop(setting.name, loaded, "masks"),
        )

    def _generation_loop(self, name: str, loaded: "Loaded") -> GenerationLoop | None:
        if "generation" not in loaded.engines:
            return None
        limits = Limits(running=_RUNNING, cache_tokens=loaded.cache_tokens, prefill_tokens=_PREFILL_TOKENS)
        loop = GenerationLoop(
            name=name,
            engine=loaded.engines["generation"],
            scheduler=Scheduler(limits),
            turns=self._turns,
            deliver=self._deliver,
            observer=self._metrics.observer(name),
            on_failure=lambda failure: self._log.fault("step_failed", failure),
            on_crash=self._on_crash,
        )
        loop.start()
        return loop

    def _encoder_loop(self, name: str, loaded: "Loaded", kind: str) -> EncoderLoop[Any] | None:
        if kind not in loaded.engines:
            return None
        loop = EncoderLoop[Any](
            name=f"{name}-{kind}",
            engine=loaded.engines[kind],
            limits=BatchLimits(tokens=_BATCH_TOKENS, waste=None if loaded.packed else _PADDING),
            turns=self._turns,
            observer=self._metrics.observer(name),
            on_failure=lambda failure: self._log.fault("step_failed", failure),
            on_crash=self._on_crash,
        )
        loop.start()
        return loop

    def _deliver(self, deliveries: Deliveries) -> None:
        """Brings what a step made from the engine's thread to the event loop, in one go."""
        if not self._event_loop.is_closed():
            self._event_loop.call_soon_threadsafe(_hand_out, deliveries)

    async def _try_once(self, model: ServedModel) -> None:
        """One real inference of each kind."""
        scratch = Meter(Metrics(), model.name, "warm-up")
        text = EncoderInput(model.tokenizer.encode("ready").ids)
        if model.generation is not None:
            async for _ in generate(model, Ask(prompts=[text.tokens], max_new_tokens=[2], temperature=0.0), scratch):
                pass
        if model.embeddings is not None:
            await compute(model.embeddings, [text])
        if model.classification is not None:
            await compute(model.classification, [text])
        if model.masks is not None:
            await compute(model.masks, [EncoderInput(text.tokens, (0,))])


def _hand_out(deliveries: Deliveries) -> None:
    for sequence, progress in deliveries:
        sequence.on_progress(progress)
