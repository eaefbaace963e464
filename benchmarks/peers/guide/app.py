# ruff: noqa
# fmt: off
# The guide's service as INTERFACE.md quotes it.
from fastapi import FastAPI
import joblib
app = FastAPI()
model = joblib.load("model.pkl")
@app.post("/predict")
def predict(data: dict):
    return {"result": model.predict([data["input"]]).tolist()}
