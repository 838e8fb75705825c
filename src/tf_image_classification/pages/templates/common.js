"use strict";
const $ = id => document.getElementById(id);

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/* The contents of the page, a menu where the window is narrow. */
const menu = $("menu");
const openMenu = isOpen => menu.setAttribute("aria-expanded", isOpen);
menu.addEventListener("click", () => openMenu(menu.getAttribute("aria-expanded") !== "true"));
$("contents").addEventListener("click", () => openMenu(false));
document.addEventListener("click", event => { if (!event.target.closest(".side")) openMenu(false); });
document.addEventListener("keydown", event => {
  if (event.key === "Escape" && menu.getAttribute("aria-expanded") === "true") { openMenu(false); menu.focus(); }
});
