"""CTranslate2 behind the smallest server that does it justice: whoever waits is generated in one batch, and streamed.

CTranslate2 has no continuous batching: a request that comes while a batch runs waits for its end. Within a batch each
request ends at its own length (the callback says so), and the library then computes the rest alone.
"""

import asyncio
import contextlib
import sys
import threading

import ctranslate2
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tokenizers import Tokenizer

MAX_BATCH = 32
WINDOW_SECONDS = 0.01
tokenizer = Tokenizer.from_file(f"{sys.argv[1]}/tokenizer.json")
names = [tokenizer.id_to_token(token) for token in range(tokenizer.get_vocab_size())]
generator = ctranslate2.Generator(sys.argv[1], compute_type=sys.argv[3], inter_threads=1, intra_threads=1)
waiting: list["Request"] = []
wake = threading.Condition()


class Request:
    """One prompt, how many tokens it wants, and where they go: `(tokens, ended)`."""

    def __init__(self, body: dict):
        self.prompt = [names[token] for token in body["prompt"]]
        self.wanted = body["max_tokens"]
        self.made: list[int] = []
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue = asyncio.Queue()


def work() -> None:
    while True:
        with wake:
            while not waiting:
                wake.wait()
            seen = 0
            while seen < len(waiting) < MAX_BATCH:  # those that come together go together
                seen = len(waiting)
                wake.wait_for(lambda: len(waiting) >= MAX_BATCH, WINDOW_SECONDS)
            batch = waiting[:MAX_BATCH]
            del waiting[:MAX_BATCH]
        generate(batch)


def generate(batch: list[Request]) -> None:
    def on_token(step) -> bool:
        request = batch[step.batch_id]
        if len(request.made) < request.wanted:
            request.made.append(step.token_id)
            ended = len(request.made) == request.wanted
            request.loop.call_soon_threadsafe(request.queue.put_nowait, (step.token_id, ended))
        return len(request.made) >= request.wanted

    longest = max(request.wanted for request in batch)
    generator.generate_batch(
        [request.prompt for request in batch], max_length=longest, min_length=longest, sampling_topk=1, beam_size=1,
        include_prompt_in_result=False, end_token=[], callback=on_token,
    )  # fmt: skip


async def events(request: Request):
    ended = False
    while not ended:
        token, ended = await request.queue.get()
        yield b"data: " + orjson.dumps({"choices": [{"text": tokenizer.decode([token])}]}) + b"\n\n"
    usage = {"completion_tokens": len(request.made)}
    yield b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\ndata: [DONE]\n\n"


async def complete(http) -> Response:
    body = orjson.loads(await http.body())
    request = Request(body)
    with wake:
        waiting.append(request)
        wake.notify()
    if body.get("stream"):
        return StreamingResponse(events(request), media_type="text/event-stream")
    while not (await request.queue.get())[1]:
        pass
    answer = {"choices": [{"text": tokenizer.decode(request.made)}], "usage": {"completion_tokens": len(request.made)}}
    return Response(orjson.dumps(answer), media_type="application/json")


@contextlib.asynccontextmanager
async def life(_app):
    threading.Thread(target=work, daemon=True).start()
    yield


app = Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])], lifespan=life)
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
