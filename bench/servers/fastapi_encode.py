"""The server one writes first: FastAPI around transformers, one text after the other. Arguments: model, task, port."""

import sys
import threading

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

directory, task, port = sys.argv[1:]
kind = AutoModelForSequenceClassification if task == "classification" else AutoModel
tokenizer = AutoTokenizer.from_pretrained(directory)
model = kind.from_pretrained(directory, dtype=torch.float32).eval()
torch.set_num_threads(1)
app, turn = FastAPI(), threading.Lock()


class Body(BaseModel):
    input: str


@app.post("/")
def encode(body: Body):
    inputs = tokenizer(body.input, return_tensors="pt")
    with turn, torch.inference_mode():
        output = model(**inputs)
        if task == "classification":
            return {"data": output.logits.softmax(-1)[0].tolist()}
        vector = output.last_hidden_state[0].mean(0)
        return {"data": torch.nn.functional.normalize(vector, dim=0).tolist()}


uvicorn.run(app, port=int(port), log_level="warning", access_log=False)
