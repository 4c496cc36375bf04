
"use strict";
// The page shows what the API tells: who is there when it (re)connects, and
// every event from then on. All text goes in as text, never as HTML.

const states = ["requested", "provisioning", "ready", "active", "failed", "lost", "destroying", "destroyed"];
const hour = 3600e3, mostEvents = 100, silence = 40e3;
const sandboxes = new Map(); // by id: what is known, and its changes of the last hour
const events = []; // the newest first
const seen = new Set(); // ids of events: some come again after a pause
let lastEvent = "";

const $ = id => document.getElementById(id);
const token = () => sessionStorage.getItem("token") || "";

function el(name, text, attributes = {}) {
	const e = document.createElement(name);
	if (text !== undefined) e.textContent = text;
	for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
	return e;
}

function row(...cells) {
	const tr = el("tr");
	tr.append(...cells.map(c => typeof c === "string" ? el("td", c) : c));
	return tr;
}

function link(state, text) {
	$("link").dataset.link = state;
	if ($("link").textContent !== text) $("link").textContent = text;
}

class Refused extends Error {}

async function get(path, headers = {}, signal) {
	if (token()) headers.Authorization = "Bearer " + token();
	const answer = await fetch(path, {headers, signal, cache: "no-store"});
	if (answer.status === 401) throw new Refused();
	if (!answer.ok) throw new Error(answer.statusText);
	return answer;
}

// everySandbox follows the pages of the list.
async function everySandbox() {
	const all = [];
	for (let cursor = ""; ; ) {
		const page = await (await get("/v1/sandboxes?limit=500&cursor=" + encodeURIComponent(cursor))).json();
		all.push(...page.sandboxes);
		if (!(cursor = page.next)) return all;
	}
}

function known(id) {
	if (!sandboxes.has(id)) sandboxes.set(id, {id, changes: [], seq: 0});
	return sandboxes.get(id);
}

// meet takes what the list says of a sandbox, unless events told more.
function meet(s) {
	const x = known(s.id);
	if (x.changes.length === 0) x.changes.push({at: Date.parse(s.state_since), state: s.state});
	if (x.seq === 0) Object.assign(x, {state: s.state, host: s.host, consumer: s.consumer, profile: s.profile.id, expires: s.expires_at});
}

function happened(e) {
	if (seen.has(e.id)) return;
	seen.add(e.id);
	events.push(e);
	events.sort((a, b) => b.time < a.time ? -1 : b.time > a.time ? 1 : b.seq - a.seq);
	events.length = Math.min(events.length, mostEvents);
	const x = known(e.sandbox_id);
	if (e.seq < x.seq) return;
	Object.assign(x, {seq: e.seq, state: e.state, host: e.host, consumer: e.consumer, profile: e.profile_id, expires: e.expires_at});
	if (e.from !== e.state) {
		x.progress = "";
		x.changes.push({at: Date.parse(e.time), state: e.state});
	}
}

function progressed(p) {
	const x = known(p.sandbox_id);
	x.progress = p.stage + (p.message ? ": " + p.message : "") + (p.total ? ` (${p.done} of ${p.total})` : "");
}

// read hands over the events of a stream until it ends.
async function read(body, alive) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	for (let text = ""; ; ) {
		const {done, value} = await reader.read();
		if (done) return;
		alive();
		const parts = (text + value).split("\n\n");
		text = parts.pop();
		for (const part of parts) {
			const m = {};
			for (const line of part.split("\n")) {
				const i = line.indexOf(": ");
				if (i > 0) m[line.slice(0, i)] = line.slice(i + 2);
			}
			if (!m.data) continue;
			if (m.event === "progress") progressed(JSON.parse(m.data));
			else happened(JSON.parse(m.data));
			if (m.id) lastEvent = m.id;
		}
		drawSoon();
	}
}

// follow shows what happens until the connection is lost.
async function follow() {
	const stop = new AbortController();
	let timer;
	const alive = () => { clearTimeout(timer); timer = setTimeout(() => stop.abort(), silence); };
	try {
		alive();
		const headers = {Accept: "text/event-stream"};
		if (lastEvent) headers["Last-Event-ID"] = lastEvent;
		const stream = await get("/v1/events?since=1h", headers, stop.signal);
		const all = await everySandbox();
		all.forEach(meet);
		$("door").hidden = true;
		link("live", "live");
		drawSoon();
		showHosts();
		await read(stream.body, alive);
	} finally {
		clearTimeout(timer);
		stop.abort();
	}
}

async function hosts() {
	const list = (await (await get("/v1/hosts")).json()).hosts;
	$("hosts").replaceChildren(...list.map(h => row(el("th", h.host.name, {scope: "row"}), h.host.address, !h.available ? "no" : h.cordoned ? "cordoned" : "yes", String(h.sandboxes),
		h.available ? (h.free_slots === undefined ? "no limit" : String(h.free_slots)) : "unknown", h.reason || (h.warnings || []).join("; "))));
}

// showHosts leaves what is shown where they cannot be asked: they are again soon.
function showHosts() {
	hosts().catch(() => {});
}

const clock = t => new Date(t).toLocaleTimeString();

function bar(x, from, now) {
	const scale = 1000 / (now - from);
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	svg.setAttribute("viewBox", "0 0 1000 10");
	svg.setAttribute("preserveAspectRatio", "none");
	svg.setAttribute("role", "img");
	svg.setAttribute("aria-label", x.changes.map(c => c.state + " since " + clock(c.at)).join(", "));
	x.changes.forEach((c, i) => {
		const start = Math.max(c.at, from), end = i + 1 < x.changes.length ? x.changes[i + 1].at : now;
		if (c.state === "destroyed" || end < start) return;
		const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
		const at = Math.min((start - from) * scale, 998);
		for (const [key, value] of Object.entries({x: at, y: 0, width: Math.max((end - start) * scale, 2), height: 10, "data-state": c.state})) rect.setAttribute(key, value);
		svg.append(rect);
	});
	return svg;
}

function draw() {
	const now = Date.now(), from = now - hour;
	// the bars begin with the oldest sandbox, a minute to an hour ago
	const oldest = Math.min(...[...sandboxes.values()].map(x => x.changes[0]?.at ?? now));
	const start = Math.max(from, Math.min(oldest, now - 60e3));
	$("span").textContent = "States in the last " + Math.round((now - start) / 60e3) + " min";
	const rows = [];
	for (const x of [...sandboxes.values()].sort((a, b) => b.changes[0]?.at - a.changes[0]?.at)) {
		const last = x.changes.at(-1);
		if (!last) continue; // progress came before its first event
		if (x.state === "destroyed" && (last.at < from || !$("ended").checked)) {
			if (last.at < from) sandboxes.delete(x.id);
			continue;
		}
		const state = el("td"), what = el("td", undefined, {class: "bar"});
		state.append(el("span", x.state, {class: "state", "data-state": x.state}));
		if (x.progress && x.state !== "destroyed") state.append(el("span", x.progress, {class: "progress"}));
		what.append(bar(x, start, now));
		const c = x.consumer, tr = row(el("th", x.id, {scope: "row", class: "id"}), state, x.host || "", `${c.project}/${c.actor_type}:${c.actor}${c.run ? "#" + c.run : ""}`,
			x.profile, x.state === "destroyed" ? "" : clock(x.expires), what);
		tr.dataset.sandbox = x.id;
		rows.push(tr);
	}
	$("sandboxes").replaceChildren(...rows);
	$("none").hidden = rows.length > 0;
	$("events").replaceChildren(...events.map(e => row(clock(e.time), el("td", e.sandbox_id, {class: "id"}),
		e.from && e.from !== e.state ? e.from + " → " + e.state : e.state, e.reason, e.message || "")));
	if (seen.size > 50 * mostEvents) {
		seen.clear();
		events.forEach(e => seen.add(e.id));
	}
}

let drawing = 0;
function drawSoon() {
	drawing ||= requestAnimationFrame(() => { drawing = 0; draw(); });
}

const pause = ms => new Promise(done => setTimeout(done, ms));

async function run() {
	for (;;) {
		try {
			await follow();
		} catch (e) {
			if (e instanceof Refused) {
				link("wait", "a token is needed");
				$("door").hidden = false;
				await new Promise(done => { $("door").onsubmit = event => { event.preventDefault(); sessionStorage.setItem("token", $("token").value.trim()); done(); }; });
				link("wait", "connecting");
				continue;
			}
		}
		link("lost", "connection lost, trying again");
		await pause(1000);
	}
}

$("legend").append(...states.map(s => el("li", s, {"data-state": s})));
$("ended").onchange = draw;
setInterval(draw, 5000);
setInterval(() => { if ($("link").dataset.link === "live") showHosts(); }, 10000);
run();
