// Questions to the server. One at a time of each kind: while one is on its way only the newest of
// those after it is kept, so that the last always wins and a slow model is never flooded.

export const connection = new EventTarget(); // "lost", "back"
let lost = false, waiting = 0;
let resend = null; // sends the images of this page again to a server that has forgotten them

export class Refusal extends Error {} // what the server says in a sentence
export class Lost extends Error {}

export const ask = (name, asked = {}) => waited(async () => (await send(name, JSON.stringify(asked))).json());

export const sendFile = (file) => waited(async () => (await send("images", file)).json());

export async function save(asked) {
  const [name, content] = await waited(async () => {
    const answer = await send("save", JSON.stringify(asked));
    return [answer.headers.get("Content-Disposition").match(/filename="(.*?)"/)[1], await answer.blob()];
  });
  const place = URL.createObjectURL(content);
  Object.assign(document.createElement("a"), { href: place, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(place), 60000);
  return name;
}

// The page shows that it waits for something.
async function waited(work) {
  document.body.classList.toggle("busy", ++waiting > 0);
  try {
    return await work();
  } finally {
    document.body.classList.toggle("busy", --waiting > 0);
  }
}

export function onForgotten(act) {
  resend = act;
}

async function send(name, body, last = false) {
  let answer;
  try {
    answer = await fetch(`api/${name}`, { method: "POST", body });
  } catch {
    loseTrack();
    throw new Lost();
  }
  if (answer.ok) return answer;
  if (answer.status === 410 && resend && !last) {
    await resend();
    return send(name, body, true);
  }
  const text = await answer.text();
  let said = text;
  try {
    said = JSON.parse(text).error;
  } catch { /* a plain sentence */ }
  throw new Refusal(said || `The server answers ${answer.status}.`);
}

async function loseTrack() {
  if (lost) return;
  lost = true;
  connection.dispatchEvent(new Event("lost"));
  while (lost) {
    await new Promise((done) => setTimeout(done, 1000));
    try {
      lost = !(await fetch("api/about", { method: "POST" })).ok;
    } catch { /* not yet */ }
  }
  connection.dispatchEvent(new Event("back"));
}

export function newest(work, onError) {
  let busy = false, next = null;
  return async (...asked) => {
    next = asked;
    if (busy) return;
    busy = true;
    while (next) {
      const now = next;
      next = null;
      try {
        await work(...now);
      } catch (error) {
        if (!(error instanceof Lost)) onError(error);
      }
    }
    busy = false;
  };
}
