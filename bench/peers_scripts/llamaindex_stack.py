"""LlamaIndex as its documentation has it: directory reader, IngestionPipeline with cache and docstore, Chroma on disk.

Chroma and not SimpleVectorStore: that one keeps no text, so a VectorStoreIndex cannot be opened on what the pipeline
put into it (``simple_store`` tries).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
import common
from chromadb.config import Settings
from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, SimpleVectorStore
from llama_index.vector_stores.chroma import ChromaVectorStore


def embedder(model: str) -> BaseEmbedding:
    """HuggingFaceEmbedding over the folder with the weights, or words hashed; every text is counted."""
    if not model.startswith("/"):
        return Hashed(model_name=model)
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    path, _, turned = model.partition("#")

    class Metered(HuggingFaceEmbedding):
        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            common.METER.count(len(texts))
            return self._turn(super()._get_text_embeddings(texts))

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._turn([super()._get_query_embedding(query)])[0]

        def _turn(self, vectors: list[list[float]]) -> list[list[float]]:
            if not turned:
                return vectors
            import numpy as np

            return (np.asarray(vectors, np.float32) @ common.rotation()).tolist()

    made = Metered(model_name=path)
    made.model_name = model  # another model has another name, which the pipeline's cache looks at
    return made


class Hashed(BaseEmbedding):
    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        common.METER.count(len(texts))
        return common.hashed(texts, self.model_name).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return common.hashed([query], self.model_name)[0].tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class LlamaIndex:
    model = ""

    def open(self, store: Path, files: Path, mode: str, model: str) -> None:
        self.files, self.kept = files, store / "pipeline"
        if self.model != model:
            self.model, self.embedder = model, embedder(model)
            self.embedder.get_query_embedding("warm up")
        client = chromadb.PersistentClient(str(store / "chroma"), settings=Settings(anonymized_telemetry=False))
        self.collection = client.get_or_create_collection("docs")
        self.vectorstore = ChromaVectorStore(chroma_collection=self.collection)
        self.pipeline = IngestionPipeline(
            transformations=[
                SentenceSplitter(chunk_size=common.CHUNK, chunk_overlap=0, tokenizer=list),  # characters, as the others
                self.embedder,
            ],
            vector_store=self.vectorstore,
            docstore=SimpleDocumentStore(),
            docstore_strategy=DocstoreStrategy(mode),
        )
        if self.kept.exists():
            self.pipeline.load(str(self.kept))
        self.index = VectorStoreIndex.from_vector_store(self.vectorstore, embed_model=self.embedder)

    def ingest(self, readers: str, force: bool = False) -> dict[str, Any]:
        reader = SimpleDirectoryReader(str(self.files), recursive=True, filename_as_id=True, encoding="utf-8")
        documents = reader.load_data()
        for one in documents:
            one.metadata["readers"] = readers
            for key in ("readers", "file_path"):  # no meaning, and not to be taken off the chunk's length
                one.excluded_embed_metadata_keys.append(key)
                one.excluded_llm_metadata_keys.append(key)
        nodes = self.pipeline.run(documents=documents)
        common.METER.between()
        self.pipeline.persist(str(self.kept))
        return {"report": f"{len(nodes)} nodes"}

    def _name(self, metadata: dict[str, Any]) -> str:
        return str(Path(metadata["file_path"]).relative_to(self.files))

    def search(self, text: str, readers: str) -> str:
        filters = MetadataFilters(filters=[MetadataFilter(key="readers", value=readers)])
        found = self.index.as_retriever(similarity_top_k=1, filters=filters).retrieve(text)
        return self._name(found[0].node.metadata) if found else ""

    def embed(self, text: str) -> Any:
        return self.embedder.get_query_embedding(text)

    def chunks(self) -> list[tuple[str, str]]:
        held = self.collection.get(include=["documents", "metadatas"])
        return [(self._name(one), text) for one, text in zip(held["metadatas"], held["documents"], strict=True)]

    def vectors(self) -> dict[tuple[str, str], Any]:
        held = self.collection.get(include=["documents", "metadatas", "embeddings"])
        rows = zip(held["metadatas"], held["documents"], held["embeddings"], strict=True)
        return {(self._name(one), text): vector for one, text, vector in rows}

    def close(self) -> None:
        del self.index, self.pipeline, self.vectorstore, self.collection


def simple_store() -> str:
    """Why the default vector store is not the one here."""
    try:
        VectorStoreIndex.from_vector_store(SimpleVectorStore(), embed_model=Hashed(model_name="hash"))
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    common.serve(LlamaIndex())
