# The page of airjax on a CPU, with a model of digits or with your runs:
#
#     docker build -t airjax .
#     docker run --rm -p 7860:7860 airjax
#     docker run --rm -p 7860:7860 -v ./runs:/home/airjax/runs airjax
FROM python:3.13-slim
COPY . /source
RUN pip install --no-cache-dir "/source[demo,formats,pandas]" && rm -rf /source \
    && useradd --create-home --uid 1000 airjax
USER airjax
WORKDIR /home/airjax
EXPOSE 7860
CMD ["airjax", "demo", "--train", "--host", "0.0.0.0", "--port", "7860"]
