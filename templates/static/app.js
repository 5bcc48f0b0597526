// Small comforts. Every page works without them, and nothing secret passes
// through here. The words come from the page, so that they can be translated.
"use strict";
(() => {
  const all = (selector) => document.querySelectorAll(selector);
  const make = (tag, props) => Object.assign(document.createElement(tag), props);

  // Show and hide a password; note when Caps Lock is on.
  for (const box of all(".reveal")) {
    const input = box.querySelector("input");
    const words = box.dataset;
    const button = make("button", { type: "button" });
    const said = make("span", { className: "sr" });
    const note = make("p", { className: "hint sr" });
    button.setAttribute("aria-controls", input.id);
    said.setAttribute("role", "status");
    note.setAttribute("role", "status");

    const show = (on) => {
      input.type = on ? "text" : "password";
      button.textContent = on ? words.hide : words.show;
      button.setAttribute("aria-label", on ? words.hideLabel : words.showLabel);
      button.setAttribute("aria-pressed", on);
    };
    const caps = (on) => {
      if (on === (note.textContent !== "")) return;
      note.textContent = on ? words.caps : "";
      note.classList.toggle("sr", !on);
    };
    button.addEventListener("click", () => {
      show(input.type === "password");
      said.textContent = input.type === "password" ? words.hidden : words.shown;
    });
    for (const event of ["keydown", "keyup"]) {
      // A password manager's events are not keys and have no modifiers.
      input.addEventListener(event, (e) => e.getModifierState && caps(e.getModifierState("CapsLock")));
    }
    input.addEventListener("blur", () => caps(false));
    input.form.addEventListener("submit", () => show(false));

    show(false);
    box.append(button);
    box.after(said, note);
  }

  // An error is read first.
  const summary = document.querySelector(".notice[role=alert]");
  if (summary) summary.focus();

  // A form is sent once. The button stays enabled, so that its value is sent
  // and focus is not lost; a lost connection gives the form back.
  const release = (form) => {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("[aria-disabled]")) button.removeAttribute("aria-disabled");
  };
  document.addEventListener("submit", (e) => {
    const form = e.target;
    if (form.dataset.sent) return e.preventDefault();
    form.dataset.sent = "yes";
    if (e.submitter) e.submitter.setAttribute("aria-disabled", "true");
    setTimeout(release, 8000, form);
  });
  addEventListener("pageshow", () => all("form[data-sent]").forEach(release));

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
