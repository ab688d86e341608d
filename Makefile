# Everything that a user or a contributor runs, on Debian or Ubuntu with Python 3.11 or 3.12.
#   make demo      environment, then collect, train, evaluate and run over ROS 2 (20 minutes on 2 cores)
#   make setup     the environment alone (.venv)
#   make test      the environment and the fast tests     make test-all: the slow ones too
#   make check     ruff and mypy
#   make system    Debian packages for rendering and browser tests (needs root)
SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3.12)
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
EXTRAS ?= sim,ros,ros-build,formats,view,openvino,shape,dev
SYSTEM_PACKAGES := libegl1 libgl1-mesa-dri libosmesa6 chromium xvfb xdotool
MSGS := $(shell find ros2_ws/src/diffbot_msgs -type f 2>/dev/null)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MUJOCO_GL ?= egl

.PHONY: demo setup test test-all check system clean

demo: setup
	$(BIN)/diffbot demo

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(MSGS)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: apt-get install python3 python3-venv, or make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip "setuptools>=77,<80" wheel uv
	@# Without a GPU the CPU build of torch saves several GB; uv knows where it is. Offline mirrors serve pip alone.
	$(BIN)/python -c "import torch" 2>/dev/null || { \
	  { ! command -v nvidia-smi >/dev/null && $(BIN)/uv pip install -q --python $(BIN)/python --torch-backend=cpu "$(TORCH)" 2>/dev/null; } \
	  || $(BIN)/python -m pip install -q "$(TORCH)"; }
	$(BIN)/python -m pip install -q -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install -q --no-build-isolation ./ros2_ws/src/diffbot_msgs
	touch $@

# Tests of real ROS processes keep time, so nothing runs beside them; those of the nodes' parts share their fresh process.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/ros -m "not slow and not ros"
	$(BIN)/python -m pytest -m "not slow" tests/ros

test-all: setup
	$(BIN)/python -m pytest --ignore tests/ros -m ""
	$(BIN)/python -m pytest tests/ros -m ""

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

system:
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
