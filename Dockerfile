# adapterkit with the server, for a CPU: docker build -t adapterkit . && docker run -v "$PWD:/work" -p 8000:8000 adapterkit serve --host 0.0.0.0
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY --from=build /wheels /wheels
COPY constraints.txt /tmp/constraints.txt
# PyPI's torch brings CUDA, several gigabytes
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
 && pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /wheels/*.whl)[serve]" \
 && rm -r /wheels /tmp/constraints.txt \
 && useradd --create-home --uid 1000 adapt
USER 1000
WORKDIR /work
ENTRYPOINT ["adapt"]
CMD ["--help"]
