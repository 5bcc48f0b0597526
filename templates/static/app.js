// Small comforts. Every page works without them, and nothing secret passes
// through here. The words come from the page, so that they can be translated.
"use strict";
(() => {
  const all = (selector) => document.querySelectorAll(selector);
  const one = (id) => document.getElementById(id);
  const make = (tag, props) => Object.assign(document.createElement(tag), props);
  const status = (tag) => {
    const said = make(tag, { className: "sr" });
    said.setAttribute("role", "status");
    return said;
  };

  let pressed = false;
  for (const event of ["pointerdown", "pointerup", "pointercancel"]) addEventListener(event, (e) => (pressed = e.type === "pointerdown"), true);

  // Show and hide a password; note when Caps Lock is on and, once one has left
  // the field, that it differs from the one that it repeats.
  for (const box of all(".reveal")) {
    const input = box.querySelector("input");
    const words = box.dataset;
    const button = make("button", { type: "button" });
    const said = status("span");
    const note = status("p");
    button.setAttribute("aria-controls", input.id);

    const show = (on) => {
      input.type = on ? "text" : "password";
      button.textContent = on ? words.hide : words.show;
      button.setAttribute("aria-label", on ? words.hideLabel : words.showLabel);
      button.setAttribute("aria-pressed", on);
    };
    const tell = (text, look) => {
      if (note.textContent === text) return;
      note.textContent = text;
      note.className = text ? look : "sr";
    };
    button.addEventListener("click", () => {
      show(input.type === "password");
      said.textContent = input.type === "password" ? words.hidden : words.shown;
    });
    for (const event of ["keydown", "keyup"]) {
      // A password manager's events are not keys and have no modifiers.
      input.addEventListener(event, (e) => e.getModifierState && tell(e.getModifierState("CapsLock") ? words.caps : "", "hint"));
    }
    const compare = () => {
      const differs = words.match && input.value && input.value !== one(words.match).value;
      tell(differs ? words.differs : "", "error");
      if (differs) input.setAttribute("aria-invalid", "true");
    };
    // A button that moves away under the pointer is not clicked.
    input.addEventListener("blur", () => (pressed ? addEventListener("pointerup", () => setTimeout(compare), { once: true }) : compare()));
    input.form.addEventListener("submit", () => show(false));

    show(false);
    box.append(button);
    box.after(said, note);
  }

  // A code is digits, however it is pasted. Where the page says so the sixth one
  // sends it, once.
  for (const input of all(".code input")) {
    const hint = one(input.dataset.sends);
    let sends = hint;
    if (hint) {
      hint.hidden = false;
      input.setAttribute("aria-describedby", input.getAttribute("aria-describedby") + " " + hint.id);
    }
    input.addEventListener("input", () => {
      const digits = input.value.replace(/[\s\u2010-\u2015-]/g, "");
      if (digits !== input.value) input.value = digits;
      if (!sends || !/^\d{6}$/.test(digits)) return;
      sends = false;
      input.form.requestSubmit();
    });
  }

  // Copy and print. What cannot be copied is selected.
  for (const button of navigator.clipboard ? all("[data-copy]") : []) {
    const label = button.querySelector("span");
    const word = label.textContent;
    const said = status("span");
    button.hidden = false;
    button.after(said);
    button.addEventListener("click", () => {
      const from = one(button.dataset.copy);
      const lines = from.children.length ? [...from.children] : [from];
      const text = lines.map((line) => line.textContent.replace(/\s/g, "")).join("\n");
      navigator.clipboard.writeText(text).then(
        () => {
          label.textContent = said.textContent = button.dataset.copied;
          setTimeout(() => ([label.textContent, said.textContent] = [word, ""]), 3000);
        },
        () => getSelection().selectAllChildren(from),
      );
    });
  }
  const paper = one("print");
  if (paper) {
    paper.hidden = false;
    paper.addEventListener("click", () => print());
  }

  // Times that the server could only tell in UTC. A clock time says its day where
  // that is not the one that the server wrote above it.
  for (const time of all("time[data-local]")) {
    const { local } = time.dataset;
    const at = new Date(time.dateTime);
    const moved = at.getDate() !== at.getUTCDate();
    if (local === "day" && !moved) continue;
    time.textContent = at.toLocaleString(time.closest("[data-locale]").dataset.locale, {
      dateStyle: local === "time" && !moved ? undefined : "long",
      timeStyle: local === "day" ? undefined : "short",
    });
  }

  // The page's dialog becomes modal. Escape leads where Cancel does; what may be
  // half done is asked about first.
  const dialog = document.querySelector("dialog[open]");
  if (dialog) {
    const unfinished = one("unfinished");
    const leave = (e) => {
      if (e.type === "keydown" && e.key !== "Escape") return;
      e.preventDefault();
      if (!unfinished || !unfinished.hidden) return location.assign(one("cancel").href);
      const before = document.activeElement;
      unfinished.hidden = false;
      one("keep-going").focus();
      one("keep-going").onclick = () => {
        unfinished.hidden = true;
        before.focus();
      };
    };
    dialog.open = false;
    dialog.showModal();
    for (const event of ["keydown", "cancel"]) addEventListener(event, leave, true);
    dialog.addEventListener("close", () => location.assign(one("cancel").href));
  }

  // An error is read first. Who comes back from a dialog goes on at its opener.
  const first = document.querySelector("[role=alert]") || (!dialog && one(location.hash.slice(1)));
  if (first) first.focus();

  // A form is sent once. The button stays enabled, so that its value is sent
  // and focus is not lost; a lost connection gives the form back.
  const release = (form) => {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("[aria-disabled]")) button.removeAttribute("aria-disabled");
  };
  document.addEventListener("submit", (e) => {
    const form = e.target;
    if (form.id === "download") return; // leads to no other page
    if (form.dataset.sent) return e.preventDefault();
    form.dataset.sent = "yes";
    if (e.submitter) e.submitter.setAttribute("aria-disabled", "true");
    setTimeout(release, 8000, form);
  });
  addEventListener("pageshow", () => all("form[data-sent]").forEach(release));

  // Passkeys. Such a form asks what to ask the browser for, and sends its answer. One
  // that says so lets the address field offer passkeys until a button is pressed, and
  // asks anew before that is too old or after another tab may have asked.
  const keys = window.PublicKeyCredential;
  const able = keys && keys.parseRequestOptionsFromJSON && keys.parseCreationOptionsFromJSON;
  let asking = {};
  const ask = async (form, quiet) => {
    const says = form.querySelector("[data-failed]");
    const mine = (asking.by?.abort(), (asking = { quiet, by: new AbortController() }));
    const { signal } = mine.by;
    if (!quiet) says.hidden = true;
    form.elements.credential.value = "";
    try {
      const answer = await fetch(form.dataset.passkey, { method: "POST", body: new URLSearchParams(new FormData(form)), signal });
      if (answer.status === 403 && form.dataset.create !== undefined) return location.reload(); // the last proof is too old by now
      if (!answer.ok) throw { name: answer.status };
      const { publicKey } = await answer.json();
      const credential = await (form.dataset.create === undefined
        ? navigator.credentials.get({ publicKey: keys.parseRequestOptionsFromJSON(publicKey), mediation: quiet ? "conditional" : "optional", signal })
        : navigator.credentials.create({ publicKey: keys.parseCreationOptionsFromJSON(publicKey), signal }));
      form.elements.credential.value = JSON.stringify(credential);
      form.submit();
    } catch (e) {
      if (quiet || mine !== asking) return;
      says.setAttribute("role", "alert");
      says.textContent = says.dataset[{ NotAllowedError: "cancelled", InvalidStateError: "known", 429: "busy" }[e.name] || "failed"];
      says.hidden = false;
      release(form);
      offer();
    }
  };
  const offer = async () => {
    const form = document.querySelector("[data-auto]");
    if (form && able && keys.isConditionalMediationAvailable && (await keys.isConditionalMediationAvailable())) ask(form, true);
  };
  for (const form of all("[data-passkey]")) {
    form.querySelector("[type=submit]").hidden = !able;
    if (form.dataset.auto === undefined) form.querySelector("[data-cannot]").hidden = able;
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      if (!form.dataset.sent) ask(form);
    });
  }
  offer();
  setInterval(() => asking.quiet && offer(), 240000);
  addEventListener("visibilitychange", () => document.hidden || (asking.quiet && offer()));
  for (const { dataset } of keys ? all("[data-signal]") : []) {
    for (const [name, what] of Object.entries(JSON.parse(dataset.signal))) if (keys[name]) keys[name](what).catch(() => 0);
  }

  // What goes on to a workspace goes on by itself.
  if (one("go-on")) one("go-on").requestSubmit();

  // The menu closes as menus do.
  for (const menu of all("details.menu")) {
    addEventListener("click", (e) => menu.contains(e.target) || (menu.open = false));
    menu.addEventListener("keydown", (e) => {
      if (e.key !== "Escape" || !menu.open) return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }
})();
