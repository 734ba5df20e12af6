// The page's state: which frame is shown, with which settings. The server keeps neither.

import { buildFaces } from "./faces.js";
import { Wipe } from "./wipe.js";

const element = (id) => document.getElementById(id);
const KEPT = "studio settings";

async function ask(path, settings) {
  const request = settings === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(settings),
  };
  const answer = await fetch(path, request);
  if (!answer.ok) {
    const words = (await answer.json().catch(() => null))?.error;
    throw new Error(words ?? `the studio answered ${answer.status}`);
  }
  return answer;
}

function say(words, wrong = false) {
  element("status").textContent = words;
  element("status").classList.toggle("wrong", wrong);
}

// Settings outlive a reload of the page, in this tab alone.
function kept(about) {
  try {
    const stored = JSON.parse(sessionStorage.getItem(KEPT));
    if (stored?.at === location.href) return stored.settings;
  } catch { /* of another film, or none */ }
  return about.settings;
}

async function start() {
  const about = await (await ask("about.json")).json();
  const settings = kept(about);
  const wipe = new Wipe(about.width, about.height);
  document.title = `Studio: ${about.name}`;
  element("film").textContent = about.name;
  element("facts").textContent = `${about.words}; restored by ${about.model}`;
  element("file").textContent = about.tracksFile;
  const range = element("frame");
  const number = element("number");
  let shown = about.begin;
  let seen = null; // number of the frame whose picture is there
  let version = 0; // of frame and settings together
  let written = null; // what the tracks file holds

  // One request after the other: what is asked for meanwhile is asked for when it is done.
  let busy = false;
  async function update() {
    if (busy) return;
    busy = true;
    let done = -1;
    while (done !== version) {
      done = version;
      try {
        await draw(shown);
      } catch (error) {
        say(`Not restored: ${error.message}`, true);
      }
    }
    busy = false;
  }

  async function draw(at) {
    const started = performance.now();
    if (seen !== at) wipe.hideAfter();
    say(`Restoring frame ${at} …`);
    element("stage").setAttribute("aria-busy", "true");
    const text = structuredClone(settings);
    const [told, command] = await Promise.all([
      ask(`frame/${at}/faces.json`, text).then((answer) => answer.json()),
      ask("status.json", text).then((answer) => answer.json()),
      seen === at ? null : wipe.show(wipe.before, `frame/${at}/before.png`, `Frame ${at} as it is`),
    ]);
    seen = at;
    element("clock").textContent = told.clock;
    tellFaces(told.faces);
    tellCommand(command);
    if (shown !== at) return; // gone on: what is restored now nobody would see
    const picture = await (await ask(`frame/${at}/after.png`, text)).blob();
    if (shown !== at) return;
    await wipe.show(wipe.after, URL.createObjectURL(picture), `Frame ${at} restored`);
    wipe.showAfter();
    element("stage").removeAttribute("aria-busy");
    const restored = told.faces.filter((face) => face.reason === null).length;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    say(`Frame ${at} restored in ${seconds} s: ${restored} of ${told.faces.length} faces.`);
  }

  function tellFaces(faces) {
    const items = faces.map((face) => {
      const item = document.createElement("li");
      const words = document.createElement("span");
      const whose = face.person === null ? "" : `person ${face.person}, `;
      const what = face.reason === null ? "restored" : `left alone: ${face.reason}`;
      words.textContent = `Track ${face.track} (${whose}${face.size} px): ${what}`;
      const closer = document.createElement("button");
      closer.type = "button";
      closer.textContent = "Look closer";
      closer.setAttribute("aria-label", `Look closer at track ${face.track}`);
      closer.addEventListener("click", () => {
        wipe.look(wipe.closer ? null : face.box);
        tellFaces(faces);
      });
      if (wipe.closer) {
        closer.textContent = "Whole picture";
        closer.setAttribute("aria-label", "Show the whole picture");
      }
      item.append(words, closer);
      return item;
    });
    if (!items.length) {
      items.push(document.createElement("li"));
      items[0].textContent = "No face here.";
    }
    // Whoever is in the list by keyboard stays where they are.
    const list = element("here");
    const at = [...list.children].findIndex((item) => item.contains(document.activeElement));
    list.replaceChildren(...items);
    if (at >= 0) items[Math.min(at, items.length - 1)].querySelector("button")?.focus();
  }

  function tellCommand({ command, exists }) {
    element("command").textContent = command;
    const now = JSON.stringify(settings);
    const there = exists ? "is there from before; writing replaces it." : "is not written yet.";
    const ours = written === now ? "is written." : "is written, but was changed here since.";
    element("saved").textContent = written === null ? there : ours;
  }

  function go(to) {
    shown = Math.min(about.last, Math.max(about.first, Math.round(to)));
    range.value = number.value = shown;
    range.setAttribute("aria-valuetext", `frame ${shown}`);
    const now = element("strip").querySelector(".now");
    now.style.left = `${(100 * (shown - about.first)) / Math.max(1, about.last - about.first)}%`;
    version += 1;
    update();
  }

  function changed() {
    sessionStorage.setItem(KEPT, JSON.stringify({ at: location.href, settings }));
    version += 1;
    drawStrip();
    update();
  }

  // When each person is there, a line for each, for those who see it; the cards say it in words.
  function drawStrip() {
    const strip = element("strip");
    const length = about.last - about.first + 1;
    const lines = new Map();
    for (const track of about.tracks) {
      if (!lines.has(track.person)) lines.set(track.person, document.createElement("div"));
      const bar = document.createElement("span");
      bar.style.left = `${(100 * (track.first - about.first)) / length}%`;
      bar.style.width = `${(100 * (track.last - track.first + 1)) / length}%`;
      const on = settings.persons[track.person]?.enabled ?? true;
      bar.classList.toggle("off", !on || !settings.tracks[track.id].enabled);
      lines.get(track.person).append(bar);
    }
    const now = strip.querySelector(".now") ?? document.createElement("span");
    now.className = "now";
    strip.replaceChildren(...[...lines.values()].slice(0, 12), now);
  }

  for (const one of [range, number]) {
    one.min = about.first;
    one.max = about.last;
  }
  range.addEventListener("input", () => go(Number(range.value)));
  number.addEventListener("change", () => go(Number(number.value)));
  element("back").addEventListener("click", () => go(shown - 1));
  element("forward").addEventListener("click", () => go(shown + 1));
  element("save").addEventListener("click", async () => {
    const text = structuredClone(settings);
    try {
      const told = await (await ask("save", text)).json();
      written = JSON.stringify(text);
      tellCommand(told);
    } catch (error) {
      element("saved").textContent = `was not written: ${error.message}`;
    }
  });
  element("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(element("command").textContent);
      element("copied").textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(element("command"));
      element("copied").textContent = "The browser does not allow it; the command is selected.";
    }
  });
  buildFaces(about, settings, {
    changed,
    show: (frame) => { go(frame); element("view-title").scrollIntoView({ block: "nearest" }); },
  });
  drawStrip();
  go(shown);
}

start().catch((error) => say(`The studio is not to be reached: ${error.message}`, true));
