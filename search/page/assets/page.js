// Players of the hits. All listeners are on the document, because Gradio replaces the hits.
(() => {
  "use strict";
  const STEP = 1; // seconds that an arrow key moves
  const find = (part, selector) => part.closest(".atri-hit")?.querySelector(selector);

  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const two = (number) => String(number).padStart(2, "0");
    const minutes = Math.floor(whole / 60) % 60;
    const hours = Math.floor(whole / 3600);
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  };

  // The place of a player before its sound is loaded is the start of its part.
  const place = (audio) => (audio.readyState ? audio.currentTime : Number(audio.dataset.place ?? audio.dataset.start));
  const length = (audio) => Number(audio.dataset.duration);

  const show = (audio) => {
    const picture = find(audio, ".atri-picture");
    const share = Math.min(1, place(audio) / length(audio));
    picture.style.setProperty("--place", `${100 * share}%`);
    picture.setAttribute("aria-valuenow", place(audio).toFixed(1));
    picture.setAttribute("aria-valuetext", `${clock(place(audio))} of ${clock(length(audio))}`);
  };

  const seek = (audio, seconds) => {
    const target = Math.max(0, Math.min(seconds, length(audio)));
    audio.dataset.place = target;
    if (audio.readyState) audio.currentTime = target;
    else audio.addEventListener("loadedmetadata", () => { audio.currentTime = Number(audio.dataset.place); }, { once: true });
    show(audio);
  };

  const play = (audio) => {
    // A part that was played to its end begins again.
    if (audio.readyState && place(audio) >= Number(audio.dataset.end) - 0.05) seek(audio, Number(audio.dataset.start));
    audio.play().catch(() => {
      const hit = audio.closest(".atri-hit");
      if (audio.error && hit) hit.classList.add("atri-broken");
    });
  };

  const toggle = (audio) => (audio.paused ? play(audio) : audio.pause());

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".atri-play");
    if (button) return toggle(find(button, "audio"));
    const picture = event.target.closest(".atri-picture");
    if (!picture) return;
    const audio = find(picture, "audio");
    const box = picture.getBoundingClientRect();
    seek(audio, ((event.clientX - box.left) / box.width) * length(audio));
    if (audio.paused) audio.play().catch(() => {});
  });

  document.addEventListener("keydown", (event) => {
    const picture = event.target.closest?.(".atri-picture");
    if (!picture || event.ctrlKey || event.metaKey || event.altKey) return;
    const audio = find(picture, "audio");
    const now = place(audio);
    const moves = {
      ArrowRight: now + STEP, ArrowUp: now + STEP, ArrowLeft: now - STEP, ArrowDown: now - STEP,
      PageUp: now + 10 * STEP, PageDown: now - 10 * STEP, Home: 0, End: length(audio),
    };
    if (event.key in moves) seek(audio, moves[event.key]);
    else if (event.key === " " || event.key === "Enter") toggle(audio);
    else return;
    event.preventDefault();
  });

  // Events of sounds do not bubble, but they can be caught on their way down.
  const on = (names, act) => names.forEach((name) => document.addEventListener(name, (event) => {
    if (event.target instanceof HTMLAudioElement && event.target.closest(".atri-hit")) act(event.target);
  }, true));

  on(["play", "pause", "ended"], (audio) => {
    const button = find(audio, ".atri-play");
    button.setAttribute("aria-pressed", String(!audio.paused));
    audio.closest(".atri-hit").classList.toggle("atri-playing", !audio.paused);
  });
  on(["play"], (audio) => document.querySelectorAll(".atri-hit audio").forEach((other) => {
    if (other !== audio) other.pause();
  }));
  on(["timeupdate", "seeked", "loadedmetadata"], show);
  on(["error"], (audio) => audio.closest(".atri-hit").classList.add("atri-broken"));
  document.addEventListener("error", (event) => {
    if (event.target.matches?.(".atri-picture img")) event.target.remove();
  }, true);
})();
