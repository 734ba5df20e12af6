// Sliders and tick boxes of all faces, of persons and of their tracks.

const copyOf = (name) => document.getElementById(name).content.firstElementChild.cloneNode(true);
const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
let slidersMade = 0;

// One slider. `get` gives its own value or null, `inherited` what counts then, `set` takes a value
// or null; `whose` is read out after the label. Returns what to call when something else changed.
function slider(into, { label, whose, get, inherited, set, resets, note }) {
  const row = copyOf("slider-template");
  const [range, shown, reset] = ["input", "output", "button"].map((tag) => row.querySelector(tag));
  const name = row.querySelector("label");
  range.id = `slider-${(slidersMade += 1)}`;
  name.htmlFor = shown.htmlFor.value = range.id;
  name.textContent = label;
  range.setAttribute("aria-label", `${label} of ${whose}`);
  const refresh = () => {
    const own = get();
    const value = own === null ? inherited() : own;
    range.value = value;
    shown.textContent = value.toFixed(2);
    row.classList.toggle("inherited", own === null);
    range.setAttribute("aria-valuetext", own === null ? `${value.toFixed(2)}, ${resets}` : value.toFixed(2));
    reset.disabled = own === null;
  };
  range.addEventListener("input", () => set(Number(range.value)));
  if (resets) {
    reset.textContent = resets;
    reset.setAttribute("aria-label", `${label} of ${whose}: ${resets}`);
    reset.addEventListener("click", () => { set(null); range.focus(); });
  } else {
    reset.remove();
  }
  into.append(row);
  if (note) {
    const words = document.createElement("p");
    words.className = "faint note";
    words.textContent = note;
    words.id = `${range.id}-note`;
    range.setAttribute("aria-describedby", words.id);
    row.append(words);
  }
  return refresh;
}

// Builds everything that can be chosen; `changed` is called after each change, `show` with a frame.
// Returns what to call to show the values anew.
export function buildFaces(about, settings, { changed, show }) {
  const refreshers = [];
  const refresh = () => refreshers.forEach((one) => one());
  const edit = (change) => { change(); refresh(); changed(); };
  const names = about.hasFidelity ? ["strength", "fidelity"] : ["strength"];
  const titles = { strength: "Strength", fidelity: "Fidelity", grain: "Grain" };
  const ofAll = (name) =>
    name === "fidelity" && settings.fidelity === null ? about.defaultFidelity : settings[name];
  const notes = {
    strength: "0 leaves the picture as it is, 1 shows the restored face in full.",
    fidelity: "0 gives most detail, 1 stays closest to the film.",
    grain: "How much of the film’s own grain restored faces get back.",
  };
  for (const name of [...names, "grain"]) {
    refreshers.push(slider(document.getElementById("all"), {
      label: titles[name], whose: "all faces", note: notes[name],
      get: () => ofAll(name), inherited: () => 0, resets: "",
      set: (value) => edit(() => { settings[name] = value; }),
    }));
  }

  const persons = new Map();
  for (const track of about.tracks) {
    if (!persons.has(track.person)) persons.set(track.person, []);
    persons.get(track.person).push(track);
  }
  const numbers = [...persons.keys()].sort((a, b) => (a ?? Infinity) - (b ?? Infinity));
  const list = document.getElementById("persons");
  for (const number of numbers) {
    const tracks = persons.get(number);
    const card = copyOf("person-template");
    const title = number === null ? "Faces without a person" : `Person ${number}`;
    const heading = card.querySelector("h3");
    heading.textContent = title;
    heading.id = `person-${number}`;
    card.setAttribute("aria-labelledby", heading.id);
    const frames = tracks.reduce((sum, track) => sum + track.frames, 0);
    card.querySelector(".facts").textContent =
      `${counted(tracks.length, "track")}, ${counted(frames, "face")}`;
    const best = tracks.reduce((a, b) => (b.size > a.size ? b : a));
    const crop = card.querySelector(".crop");
    crop.src = `crop/${best.id}.png`;
    crop.alt = `Face of ${title.toLowerCase()}`;
    const tick = card.querySelector("input");
    const own = number === null ? null : settings.persons[number];
    if (own) {
      tick.setAttribute("aria-label", `Restore person ${number}`);
      tick.addEventListener("change", () => edit(() => { own.enabled = tick.checked; }));
      const only = card.querySelector(".only");
      only.setAttribute("aria-label", `Restore only person ${number}`);
      only.addEventListener("click", () => edit(() => onlyPerson(number)));
      for (const name of names) {
        refreshers.push(slider(card.querySelector(".sliders"), {
          label: titles[name], whose: `person ${number}`, resets: "as for all",
          get: () => own[name], inherited: () => ofAll(name),
          set: (value) => edit(() => { own[name] = value; }),
        }));
      }
    } else {
      tick.closest(".row").remove();
    }
    card.querySelector("summary").textContent =
      own ? `${counted(tracks.length, "track")} of this person` : counted(tracks.length, "track");
    card.querySelector("details").open = !own;
    for (const track of tracks) addTrack(card.querySelector(".tracks"), track, own);
    refreshers.push(() => {
      const off = (own && !own.enabled) || tracks.every((one) => !settings.tracks[one.id].enabled);
      tick.checked = !own || own.enabled;
      card.classList.toggle("is-off", off);
    });
    list.append(card);
  }

  function onlyPerson(number) {
    for (const [other, its] of Object.entries(settings.persons)) its.enabled = other === String(number);
    // Faces that are nobody's are not this person's either.
    for (const track of persons.get(null) ?? []) settings.tracks[track.id].enabled = false;
  }

  function addTrack(into, track, person) {
    const item = copyOf("track-template");
    const own = settings.tracks[track.id];
    item.querySelector("h4").textContent = `Track ${track.id}`;
    item.querySelector(".facts").textContent =
      `${track.from} to ${track.to} (${counted(track.frames, "frame")}), shot ${track.shot}, ` +
      `about ${track.size} px`;
    item.querySelector(".reasons").textContent =
      track.reasons.length ? `Left alone in ${track.reasons.join("; ")}` : "";
    const crop = item.querySelector(".crop");
    crop.src = `crop/${track.id}.png`;
    crop.alt = `Face of track ${track.id}`;
    const tick = item.querySelector("input");
    tick.setAttribute("aria-label", `Restore track ${track.id}`);
    tick.addEventListener("change", () => edit(() => { own.enabled = tick.checked; }));
    const button = item.querySelector(".show");
    button.setAttribute("aria-label", `Show track ${track.id}`);
    button.addEventListener("click", () => show(track.best));
    for (const name of names) {
      refreshers.push(slider(item.querySelector(".sliders"), {
        label: titles[name], whose: `track ${track.id}`,
        resets: person ? "as person" : "as for all",
        get: () => own[name], inherited: () => person?.[name] ?? ofAll(name),
        set: (value) => edit(() => { own[name] = value; }),
      }));
    }
    refreshers.push(() => {
      tick.checked = own.enabled;
      tick.disabled = Boolean(person && !person.enabled);
      item.classList.toggle("is-off", !own.enabled || Boolean(person && !person.enabled));
    });
    into.append(item);
  }

  refresh();
}
