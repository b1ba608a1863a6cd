"""A service for as long as tasks need it: started by a setup task, stopped by a teardown whatever happens between.

Needs: connection `titan_default`, and a worker on this machine, such as the bundled master's. On another machine, let the
server listen on an address that tasks can reach, and give the machine's name as `host`: a Titan master does not tell it.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from titan_provider.operators.service import TitanServiceOperator, TitanServiceStopOperator

HOST, PORT = "127.0.0.1", 18650
# Titan starts a service without arguments and environment, so its port is in its source.
SERVER = f"""
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

class Model(BaseHTTPRequestHandler):
    def do_GET(self):
        value = float(self.path.rpartition("/")[2])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({{"prediction": 3 * value + 1}}).encode())

print("listening on port {PORT}", flush=True)
HTTPServer(("{HOST}", {PORT}), Model).serve_forever()
"""

with DAG("example_titan_service", schedule=None, tags=["example", "titan"]) as dag:
    start = TitanServiceOperator(task_id="start", script=SERVER, host=HOST, port=PORT, poll_interval=0.5)
    stop = TitanServiceStopOperator(task_id="stop", service=start.output).as_teardown(setups=start)

    @task
    def predict(service: dict[str, Any], value: float) -> float:
        """Ask the service."""
        import json
        from urllib.request import urlopen

        with urlopen(f"http://{service['host']}:{service['port']}/predict/{value}") as answer:
            prediction: float = json.load(answer)["prediction"]
        return prediction

    start >> predict(start.output, 2.0) >> stop
