FROM python:3.11-slim
RUN useradd --create-home --uid 10001 app
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN mkdir -p /data && chown app /data
ENV DATA_DIR=/data PYTHONUNBUFFERED=1
USER app
EXPOSE 8000
CMD ["gunicorn", "attentive_integration.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "8", "--no-control-socket"]
