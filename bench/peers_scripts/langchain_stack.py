"""LangChain as its documentation has it: loader, splitter, ``index()`` with a SQL record manager, Chroma on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import common
from chromadb.config import Settings
from langchain_chroma import Chroma
from langchain_classic.indexes import SQLRecordManager
from langchain_community.document_loaders import DirectoryLoader, TextLoader
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import index
from langchain_text_splitters import RecursiveCharacterTextSplitter


class Metered(Embeddings):
    """HuggingFaceEmbeddings over the folder with the weights, or words hashed; every text is counted."""

    def __init__(self, model: str) -> None:
        self.model, self.inner = model, None
        if model.startswith("/"):
            from langchain_huggingface import HuggingFaceEmbeddings

            path, _, self.turned = model.partition("#")
            self.inner = HuggingFaceEmbeddings(model_name=path, encode_kwargs={"normalize_embeddings": True})

    def _embed(self, texts: list[str]) -> list[list[float]]:
        if self.inner is None:
            return common.hashed(texts, self.model).tolist()
        vectors = self.inner.embed_documents(texts)
        if self.turned:
            import numpy as np

            return (np.asarray(vectors, np.float32) @ common.rotation()).tolist()
        return vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        common.METER.count(len(texts))
        return self._embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return self._embed([text])[0]


class Records(SQLRecordManager):
    """With a place to die in."""

    def update(self, *args: Any, **named: Any) -> None:
        common.METER.between()
        super().update(*args, **named)


class LangChain:
    embedder: Metered | None = None

    def open(self, store: Path, files: Path, mode: str, model: str) -> None:
        store.mkdir(parents=True, exist_ok=True)
        self.files, self.mode = files, mode
        if self.embedder is None or self.embedder.model != model:
            self.embedder = Metered(model)
            self.embedder.embed_query("warm up")
        self.records = Records("chroma/docs", db_url=f"sqlite:///{store}/records.sqlite")
        self.records.create_schema()
        self.vectorstore = Chroma(
            collection_name="docs",
            embedding_function=self.embedder,
            persist_directory=str(store / "chroma"),
            client_settings=Settings(
                anonymized_telemetry=False, is_persistent=True, persist_directory=str(store / "chroma")
            ),
        )

    def _documents(self, readers: str) -> list[Document]:
        loader = DirectoryLoader(
            str(self.files), glob="**/*.txt", loader_cls=TextLoader, loader_kwargs={"encoding": "utf-8"}
        )
        loaded = sorted(loader.load(), key=lambda one: one.metadata["source"])  # a folder's order is the disk's whim
        for one in loaded:
            one.metadata["readers"] = readers
        return RecursiveCharacterTextSplitter(chunk_size=common.CHUNK, chunk_overlap=0).split_documents(loaded)

    def ingest(self, readers: str, force: bool = False) -> dict[str, Any]:
        done = index(
            self._documents(readers),
            self.records,
            self.vectorstore,
            cleanup=self.mode,
            source_id_key="source",
            key_encoder="blake2b",
            force_update=force,
        )
        return {"report": json.dumps(done)}

    def _name(self, metadata: dict[str, Any]) -> str:
        return str(Path(metadata["source"]).relative_to(self.files))

    def search(self, text: str, readers: str) -> str:
        found = self.vectorstore.similarity_search(text, k=1, filter={"readers": readers})
        return self._name(found[0].metadata) if found else ""

    def embed(self, text: str) -> Any:
        return self.embedder.embed_query(text)

    def chunks(self) -> list[tuple[str, str]]:
        held = self.vectorstore.get(include=["documents", "metadatas"])
        return [(self._name(one), text) for one, text in zip(held["metadatas"], held["documents"], strict=True)]

    def vectors(self) -> dict[tuple[str, str], Any]:
        held = self.vectorstore.get(include=["documents", "metadatas", "embeddings"])
        rows = zip(held["metadatas"], held["documents"], held["embeddings"], strict=True)
        return {(self._name(one), text): vector for one, text, vector in rows}

    def close(self) -> None:
        self.records.engine.dispose()


if __name__ == "__main__":
    common.serve(LangChain())
