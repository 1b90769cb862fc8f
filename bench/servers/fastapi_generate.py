"""The server one writes first: FastAPI around transformers' `generate`, one request after the other, streamed."""

import json
import sys
import threading

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
torch.set_num_threads(1)
app, turn = FastAPI(), threading.Lock()


class Body(BaseModel):
    prompt: list[int]
    max_tokens: int
    stream: bool = False


def run(body: Body, streamer: TextIteratorStreamer | None = None) -> list[int]:
    ids = torch.tensor([body.prompt])
    with turn:
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=body.max_tokens, do_sample=False,
            pad_token_id=tokenizer.eos_token_id, streamer=streamer,
        )  # fmt: skip
    return made[0, len(body.prompt) :].tolist()


def events(body: Body):
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    thread = threading.Thread(target=run, args=(body, streamer))
    thread.start()
    for text in streamer:
        yield f"data: {json.dumps({'choices': [{'text': text}]})}\n\n"
    thread.join()
    usage = {"completion_tokens": body.max_tokens}
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


@app.post("/v1/completions")
def complete(body: Body):
    if body.stream:
        return StreamingResponse(events(body), media_type="text/event-stream")
    made = run(body)
    return {"choices": [{"text": tokenizer.decode(made)}], "usage": {"completion_tokens": len(made)}}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
