"use strict";

// As UNFAMILIAR in records.py: below it the calibration promises nothing.
const UNFAMILIAR = 0.01;
const at = (id) => document.getElementById(id);
const state = { model: null, messages: [], stop: null };

function headers() {
  const key = at("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function learnModel() {
  const reply = await fetch("/v1/models", { headers: headers() });
  at("keyfield").hidden = reply.status !== 401 && !at("key").value;
  if (!reply.ok) {
    at("model").textContent = reply.status === 401 ? "wants a key" : "not reachable";
    return;
  }
  state.model = (await reply.json()).data[0].id;
  at("model").textContent = state.model;
}

function budget() {
  const mode = at("mode").value;
  if (mode === "auto") return "auto";
  return mode === "tokens" ? Number(at("tokens").value) : Number(mode);
}

function body() {
  const named = budget();
  return {
    model: state.model, messages: state.messages, stream: true, metacog: true,
    stream_options: { include_usage: true }, thinking_token_budget: named,
    ...(named === "auto" && at("effort").value !== "medium" ? { reasoning_effort: at("effort").value } : {}),
  };
}

class Turn {
  constructor(prompt) {
    this.root = at("turn").content.cloneNode(true).firstElementChild;
    this.part(".asked").textContent = prompt;
    at("talk").append(this.root);
    this.cap = null;
    this.used = 0;
    this.answer = "";
    this.follow();
  }

  part(name) { return this.root.querySelector(name); }

  follow() { at("talk").scrollTop = at("talk").scrollHeight; }

  reading(told) {
    this.cap = told.budget.enforced;
    this.part(".plan").textContent = told.plan === null ? "no layer" : `plan ${told.plan}`;
    if (told.confidence !== null) {
      const strange = told.familiarity !== null && told.familiarity < UNFAMILIAR;
      const doubt = strange ? ", but unlike all it was calibrated on" : "";
      this.part(".confidence").textContent = `confidence ${Math.round(100 * told.confidence)} %${doubt}`;
    }
    if (told.alpha !== null) this.layers(told.alpha);
    this.meter();
  }

  layers(alpha) {
    const bars = this.part(".bars");
    const most = Math.max(...alpha);
    bars.replaceChildren(...alpha.map((weight, index) => {
      const column = document.createElement("span");
      const bar = document.createElement("b");
      bar.style.height = `${(75 * weight) / most}%`;
      bar.title = `layer ${index}: ${weight.toFixed(3)}`;
      column.append(bar, alpha.length <= 16 ? String(index) : "");
      return column;
    }));
    this.part(".layers").hidden = false;
  }

  meter() {
    const meter = this.part(".meter");
    const share = this.cap === null ? (this.used ? 1 : 0) : this.cap === 0 ? 0 : Math.min(1, this.used / this.cap);
    meter.classList.toggle("free", this.cap === null);
    meter.classList.toggle("full", this.cap !== null && this.used >= this.cap);
    meter.firstElementChild.style.width = `${100 * share}%`;
    meter.setAttribute("aria-valuenow", String(this.used));
    if (this.cap !== null) meter.setAttribute("aria-valuemax", String(this.cap));
    const cap = this.cap === null ? "no limit but the reply's" : `${this.cap} tokens`;
    this.part(".spent").textContent = `thought ${this.used} of ${cap}`;
  }

  grow(choice) {
    const delta = choice.delta ?? {};
    if (delta.reasoning) {
      this.part(".thinking pre").append(delta.reasoning);
    }
    if (delta.content) {
      this.answer += delta.content;
      this.part(".answer").textContent = this.answer;
    }
    if (choice.metacog) this.told(choice.metacog, choice.finish_reason);
    this.follow();
  }

  told(about, ended) {
    if ("used" in about) {
      this.used = about.used;
      return this.meter();
    }
    if (!ended) return this.reading(about);
    const { budget: spent, close_reason: reason } = about;
    this.used = spent.used;
    this.meter();
    const predicted = spent.predicted === null ? "" : `, predicted ${spent.predicted}`;
    this.part(".spent").textContent += predicted;
    this.part(".reason").textContent = reason ? `closed: ${reason}` : "thinking was open";
    this.part(".thinking").open = false;
  }

  fail(message) {
    this.part(".error").textContent = message;
    this.part(".error").hidden = false;
  }
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

async function stream(turn) {
  const reply = await fetch("/v1/chat/completions", {
    method: "POST", headers: headers(), body: JSON.stringify(body()), signal: state.stop.signal,
  });
  if (!reply.ok) {
    if (reply.status === 401) at("keyfield").hidden = false;
    throw new Error((await reply.json()).error.message);
  }
  for await (const data of events(reply)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    for (const choice of chunk.choices) turn.grow(choice);
  }
}

async function ask() {
  const prompt = at("prompt").value.trim() || at("prompt").placeholder;
  at("prompt").value = "";
  at("hello")?.remove();
  state.messages.push({ role: "user", content: prompt });
  const turn = new Turn(prompt);
  state.stop = new AbortController();
  at("send").textContent = "Stop";
  try {
    if (state.model === null) await learnModel();
    await stream(turn);
    state.messages.push({ role: "assistant", content: turn.answer });
  } catch (error) {
    state.messages.pop();
    turn.fail(error.name === "AbortError" ? "Stopped." : error.message);
  } finally {
    state.stop = null;
    at("send").textContent = "Ask";
  }
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.stop) state.stop.abort();
  else ask();
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    if (!state.stop) ask();
  }
});
at("mode").addEventListener("change", () => { at("tokens").hidden = at("mode").value !== "tokens"; });
at("key").addEventListener("change", learnModel);
at("clear").addEventListener("click", () => {
  state.stop?.abort();
  state.messages = [];
  at("talk").replaceChildren();
});
learnModel();
