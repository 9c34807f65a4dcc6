/** One view of the widget: builds its parts and passes word between them. */

import { announcements } from "./announce";
import { type Command, Commands, placed } from "./commands";
import { ConceptBar } from "./conceptbar";
import { Connection, type Model, type Presence } from "./connection";
import { Dataset, type DatasetInfo } from "./dataset";
import { copyText, node, setAttribute, setText } from "./dom";
import { Editor } from "./editor";
import { Filmstrip } from "./filmstrip";
import { Gestures } from "./gestures";
import { Help } from "./help";
import { shareKeys } from "./hostkeys";
import { type ImageInfo, Imagery } from "./imagery";
import { dispatchKey, type KeyContext } from "./keys";
import { Page } from "./page";
import { Panel } from "./panel";
import { type Clip, Player } from "./player";
import { SettingsBox } from "./settings";
import { type Scene, Stage } from "./stage";
import { isCancelled, nameOf, type Patch, remarkOf, type Seen, type State } from "./state";
import { StatusBar } from "./statusbar";
import { Thumbs } from "./thumbs";
import { Timeline } from "./timeline";
import { Toolbar } from "./toolbar";

const NOTICE_MS = 2600;
const SLOW_MS = 3000;
const PRESENCE: Record<Presence, string> = {
  connecting: "Connecting…",
  waiting: "Waiting for the kernel…",
  absent: "No kernel: view only",
  lost: "No kernel: run the cell again",
  live: "",
};

export class View {
  readonly element = node("div", {
    class: "sam3w",
    tabindex: 0,
    role: "application",
    "aria-label": "Segmentation editor. Press ? for the keys.",
    "data-jp-suppress-context-menu": true,
    "data-sam3w-state": "busy",
    "data-sam3w-revision": "-1",
  });
  #model: Model;
  #signal: AbortSignal;
  #connection: Connection;
  #commands: Commands;
  #imagery: Imagery;
  #page: Page;
  #stage: Stage;
  #editor: Editor;
  #gestures: Gestures;
  #toolbar: Toolbar;
  #conceptBar: ConceptBar;
  #panel: Panel;
  #settings: SettingsBox;
  #status: StatusBar;
  #help: Help;
  /** Of a clip. */
  #player: Player | null = null;
  #timeline: Timeline | null = null;
  /** Of a data set. */
  #dataset: Dataset | null = null;
  #thumbs: Thumbs | null = null;
  #filmstrip: Filmstrip | null = null;
  #notice = node("div", { class: "sam3w-notice", "aria-hidden": "true", "data-testid": "sam3w-notice" });
  #noticeTimer: ReturnType<typeof setTimeout> | undefined;
  #error: string | null = null;
  #loading = false;
  #imageKey: string | null = null;
  /** Set once an answer is late, as when the kernel runs a cell. */
  #slow = false;
  #slowTimer: ReturnType<typeof setTimeout> | undefined;
  #shown: State | null = null;
  #refresh = 0;

  constructor(model: Model, signal: AbortSignal) {
    this.#model = model;
    this.#signal = signal;
    this.#connection = new Connection(
      model,
      {
        state: () => this.#stateChanged(),
        progress: () => this.#changed(),
        error: (message) => this.#fail(message),
        notice: (message) => this.#say(message),
        activity: () => this.#changed(),
        timeline: (news) => this.#player?.heard(news),
        dataset: (news) => {
          if (this.#dataset?.take(news)) this.#thumbs?.clear();
        },
      },
      signal,
    );
    this.#commands = new Commands(
      async (command, frame) => {
        const as = this.#dataset === null ? "frame_idx" : "image_idx";
        const { envelope } = await this.#connection.request("command", placed(command, as, frame));
        this.#error = null;
        const patch = envelope.payload as Patch;
        const { state } = this.#connection;
        return {
          instances: (patch.instances ?? []).map((instance) => instance.object_id),
          selected: patch.set?.selected ?? state?.selected ?? null,
          concept: patch.set?.concept ?? state?.concept ?? null,
        };
      },
      () => this.#changed(),
      (error) => this.#fail(error instanceof Error ? error.message : String(error)),
      () => this.#dataset?.shown ?? this.#player?.shown ?? null,
    );
    this.#imagery = new Imagery(this.#connection, () => this.#stage.moved(), signal);
    this.#stage = new Stage(
      this.#imagery,
      () => this.#scene(),
      () => this.#painted(),
      signal,
    );
    this.#page = new Page(this.#connection, this.#imagery, () => this.#turned(), signal);
    this.#player = this.#makePlayer();
    this.#dataset = this.#makeDataset();
    this.#editor = new Editor(this.#seen, this.#commands, this.#stage.viewport, {
      say: (message) => this.#say(message),
      changed: () => this.#changed(),
      moved: () => {
        this.#stage.moved();
        this.#changed();
      },
      hasFocus: () => this.#hasFocus(),
      takeFocus: () => this.#takeFocus(),
    });
    this.#gestures = new Gestures(this.#stage.canvas, this.#stage.viewport, this.#editor, signal);
    const host = {
      editor: this.#editor,
      run: (command: Command) => this.#run(command),
      takeFocus: () => this.#takeFocus(),
      toggleOutline: () => this.#setTrait("outline", !this.#outlineOnly),
      toggleHelp: () => this.#toggleHelp(),
      setOpacity: (value: number) => this.#setTrait("opacity", value),
      copyScript: this.#player === null ? () => void this.#copyScript() : null,
    };
    this.#toolbar = new Toolbar(host, signal);
    this.#conceptBar = new ConceptBar(host, signal);
    this.#settings = new SettingsBox(host, signal);
    this.#panel = new Panel(host, this.#settings.element, signal);
    this.#status = new StatusBar(
      () => this.#cancelWork(),
      () => this.#dismiss(),
      signal,
    );
    const own = this.#player !== null ? "Video" : this.#dataset !== null ? "Images" : null;
    this.#help = new Help(() => this.#toggleHelp(), own, signal);
    if (this.#player !== null) {
      const lanes = { select: (id: number) => this.#editor.select(id), takeFocus: () => this.#takeFocus() };
      this.#timeline = new Timeline(this.#player, lanes, signal);
    }
    if (this.#dataset !== null) {
      this.#thumbs = new Thumbs(this.#connection, () => this.#changed(), signal);
      this.#filmstrip = new Filmstrip(this.#dataset, this.#thumbs, host, signal);
    }
    this.#build();
    this.#listen(host);
  }

  start(): void {
    this.#sizeChanged();
    void this.#loadImage();
    this.#connection.start();
    this.#changed();
  }

  #build(): void {
    this.#stage.element.append(this.#status.alert, this.#notice, this.#help.element);
    this.element.append(
      node(
        "div",
        { class: "sam3w-frame" },
        this.#toolbar.element,
        this.#conceptBar.element,
        node("div", { class: "sam3w-main" }, this.#stage.element, this.#status.element),
        this.#panel.element,
        this.#timeline?.element ?? null,
        this.#filmstrip?.element ?? null,
        this.#status.live,
      ),
    );
  }

  #makePlayer(): Player | null {
    const clip = this.#model.get("_clip") as Clip | undefined;
    if (clip === undefined) return null;
    const host = {
      say: (message: string) => this.#say(message),
      turned: () => {
        this.#editor.turn();
        this.#stage.moved();
      },
      changed: () => this.#changed(),
      run: (command: Command) => this.#run(command),
      selected: () => this.#connection.state?.selected ?? null,
    };
    return new Player(clip, this.#connection, this.#imagery, host, this.#signal);
  }

  #makeDataset(): Dataset | null {
    const info = this.#model.get("_dataset") as DatasetInfo | undefined;
    if (info === undefined) return null;
    const host = {
      say: (message: string) => this.#say(message),
      turned: () => {
        this.#gestures.cancel();
        this.#editor.turn();
      },
      changed: () => this.#changed(),
      run: (command: Command) => this.#run(command),
    };
    return new Dataset(info, this.#connection, this.#page, host);
  }

  get #seen(): Seen {
    return this.#player ?? this.#dataset ?? this.#page;
  }

  #listen(host: Pick<KeyContext, "editor" | "toggleOutline" | "toggleHelp">): void {
    const { element } = this;
    const signal = this.#signal;
    const context: KeyContext = {
      ...host,
      hold: (on) => {
        this.#gestures.hand = on;
      },
      escape: () => this.#escape(),
      player: this.#player,
      dataset: this.#dataset,
      toField: () => {
        if (!this.#conceptBar.toField()) this.#say(this.#editor.concepts.advice("text"));
      },
    };
    element.addEventListener(
      "keydown",
      (event) => {
        // In a field Esc leaves the field.
        if (event.key === "Escape" && event.target instanceof HTMLInputElement) return this.#takeFocus();
        dispatchKey(event, this.#onCanvas(), context);
      },
      { signal },
    );
    shareKeys(element, signal);
    element.addEventListener(
      "keyup",
      (event) => {
        if (event.key.toLowerCase() === "h" || event.code === "KeyH") context.hold(false);
      },
      { signal },
    );
    element.addEventListener("focusout", () => context.hold(false), { signal });
    // JupyterLab keeps the focus within a cell where it is when another part of the cell is pressed.
    document.addEventListener(
      "pointerdown",
      (event) => {
        if (!event.composedPath().includes(element)) this.#letGo();
      },
      { signal, capture: true },
    );
    // What a hint was about has begun.
    this.#stage.canvas.addEventListener("pointerdown", () => this.#hush(), { signal });
    const on = (name: string, act: () => void) => {
      this.#model.on(`change:${name}`, act);
      signal.addEventListener("abort", () => this.#model.off(`change:${name}`, act));
    };
    on("opacity", () => this.#changed());
    on("outline", () => this.#changed());
    on("height", () => this.#sizeChanged());
    on("_image", () => void this.#loadImage());
    on("_preview", () => void this.#loadImage());
    on("_clip", () => {
      if (this.#player !== null) this.#player.clip = this.#model.get("_clip") as Clip;
    });
    signal.addEventListener("abort", () => {
      clearTimeout(this.#noticeTimer);
      clearTimeout(this.#slowTimer);
      cancelAnimationFrame(this.#refresh);
      this.#refresh = -1;
      this.element.remove();
    });
  }

  get #outlineOnly(): boolean {
    return this.#model.get("outline") === true;
  }

  get #opacity(): number {
    const value = this.#model.get("opacity");
    return typeof value === "number" ? Math.min(1, Math.max(0, value)) : 0.5;
  }

  #setTrait(name: "opacity" | "outline", value: number | boolean): void {
    this.#model.set(name, value);
    this.#model.save_changes();
    this.#changed();
  }

  #sizeChanged(): void {
    const height = Number(this.#model.get("height")) || 520;
    this.element.style.setProperty("--sam3w-height", `${Math.max(160, height)}px`);
  }

  async #loadImage(): Promise<void> {
    const info = this.#model.get("_image") as ImageInfo | null;
    // The place of the first picture is known before the picture is; later ones come with theirs.
    if (info?.key && this.#imageKey === null) this.#place(info);
    this.#loading = true;
    try {
      await this.#page.load(this.#model);
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    } finally {
      this.#loading = false;
      if (!this.#signal.aborted) {
        this.#stage.moved();
        this.#changed();
      }
    }
  }

  /** The picture that was loaded is on the canvas. */
  #turned(): void {
    if (this.#imagery.info !== null) this.#place(this.#imagery.info);
    this.#dataset?.refresh();
    this.#editor.refresh();
    this.#stage.moved();
    this.#changed();
  }

  #place({ key, width, height }: ImageInfo): void {
    if (key === this.#imageKey) return;
    // What a person has set holds for all images of a data set.
    if (this.#imageKey === null || this.#dataset === null) this.#editor.startWith(width, height);
    this.#imageKey = key;
    this.#stage.viewport.setImage(width, height);
    // Below a narrow canvas nothing should move from image to image.
    const aspect = this.#dataset === null ? height / width : 0.75;
    this.element.style.setProperty("--sam3w-aspect", String(aspect));
  }

  #run(command: Command): Promise<unknown> {
    if (this.#connection.state !== null) return this.#commands.run(command);
    this.#say("No kernel has answered yet: this is a view only.");
    return Promise.resolve();
  }

  async #copyScript(): Promise<void> {
    try {
      const { envelope } = await this.#connection.request("script", {});
      await copyText((envelope.payload as { script: string }).script, this.element);
      this.#say("Copied: the Python that makes these masks");
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    }
  }

  #cancelWork(): void {
    this.#connection.request("cancel", {}).catch((error: Error) => this.#fail(error.message));
  }

  #stateChanged(): void {
    const { state } = this.#connection;
    if (state !== null) for (const words of this.#news(state)) this.#speak(words);
    // Tiles can be asked for only now.
    if (this.#shown === null) this.#stage.moved();
    this.#shown = state;
    this.#player?.stateChanged();
    this.#page.refresh();
    this.#dataset?.refresh();
    this.#editor.refresh();
    this.#changed();
  }

  #news(state: State): string[] {
    const before = this.#shown;
    // What is there on another image has not been added, nor what was on the one before removed.
    const arrived = before !== null && before.image_idx !== state.image_idx;
    if (arrived && this.#dataset !== null) return [this.#dataset.arrival(state.image_idx ?? 0)];
    return announcements(before, state);
  }

  #speak(message: string): void {
    setText(this.#status.live, message);
  }

  #say(message: string): void {
    this.#speak(message);
    setText(this.#notice, message);
    this.#notice.classList.add("sam3w-shown");
    clearTimeout(this.#noticeTimer);
    this.#noticeTimer = setTimeout(() => this.#hush(), NOTICE_MS);
  }

  #hush(): void {
    this.#notice.classList.remove("sam3w-shown");
  }

  #fail(message: string): void {
    if (this.#signal.aborted) return;
    this.#error = message;
    this.#changed();
  }

  #dismiss(): void {
    this.#error = null;
    this.#changed();
    this.#takeFocus();
  }

  #toggleHelp(): void {
    this.#help.show(!this.#help.open);
    if (!this.#help.open) this.#takeFocus();
    this.#changed();
  }

  #active(): Element | null {
    return (this.element.getRootNode() as Document | ShadowRoot).activeElement;
  }

  #hasFocus(): boolean {
    return this.element.contains(this.#active());
  }

  /** The root is where Tab arrives, the canvas where a click does; the keys are the same. */
  #onCanvas(): boolean {
    const active = this.#active();
    return active === this.element || active === this.#stage.canvas;
  }

  #takeFocus(): void {
    if (!this.#onCanvas()) this.#stage.canvas.focus({ preventScroll: true });
  }

  #letGo(): void {
    const active = this.#active();
    if (active instanceof HTMLElement && this.element.contains(active)) active.blur();
  }

  get #working(): boolean {
    const { phase, cancellable } = this.#connection.status;
    return phase !== "idle" && cancellable;
  }

  #escape(): boolean {
    if (this.#help.open) this.#toggleHelp();
    else if (this.#gestures.cancel()) this.#say("Cancelled");
    else if (this.#working) {
      this.#cancelWork();
      this.#say("Cancelled");
    } else if (this.#player?.playing) this.#player.pause();
    else if (this.#editor.draft !== null) this.#editor.back();
    else if (this.#error !== null) this.#dismiss();
    else if (!this.#editor.back()) this.#letGo();
    return true;
  }

  /** Cheap to call: state shows at once, everything else with the next frame. */
  #changed(): void {
    if (this.#signal.aborted) return;
    const state = this.#currentState();
    // Ready is said only after the canvas shows it.
    if (state !== "ready") setAttribute(this.element, "data-sam3w-state", state);
    this.#stage?.invalidate();
    this.#watchAnswers();
    if (this.#refresh !== 0) return;
    this.#refresh = requestAnimationFrame(() => {
      this.#refresh = 0;
      this.#update();
    });
  }

  #watchAnswers(): void {
    if (this.#commands.idle) {
      clearTimeout(this.#slowTimer);
      this.#slowTimer = undefined;
      this.#slow = false;
    } else {
      this.#slowTimer ??= setTimeout(() => {
        this.#slow = true;
        this.#changed();
      }, SLOW_MS);
    }
  }

  #currentState(): "ready" | "busy" | "error" {
    if (this.#error !== null) return "error";
    if (this.#loading) return "busy";
    const { state, presence, outstanding, status } = this.#connection;
    if (presence === "absent" || presence === "lost") return "ready";
    if (state === null || outstanding > 0 || status.phase !== "idle") return "busy";
    if (!this.#commands.idle || this.#seen.away) return "busy";
    const waits = [...state.instances, ...state.concepts].some(({ pending }) => pending);
    return waits ? "busy" : "ready";
  }

  #update(): void {
    const { status } = this.#connection;
    const { state } = this.#seen;
    const editor = this.#editor;
    this.#timeline?.update(state);
    this.#filmstrip?.update(state);
    this.#toolbar.update(editor, state, this.#outlineOnly, this.#help.open);
    this.#conceptBar.update(state, editor.chosen);
    this.#panel.update(state, editor.selected?.object_id ?? null, editor.chosen);
    this.#settings.update(state, this.#opacity, this.#outlineOnly);
    this.#status.update(status, state?.concepts ?? [], this.#restingWords(), this.#error);
    this.#where();
    const { canvas } = this.#stage;
    canvas.classList.toggle("sam3w-brushing", editor.tool === "brush");
    canvas.classList.toggle("sam3w-away", editor.away);
    canvas.classList.toggle("sam3w-excluding", editor.tool === "point" && !editor.positive);
    const name = this.#imagery.info?.name ?? "";
    setAttribute(canvas, "aria-label", name === "" ? "Image" : `Image ${name}`);
  }

  /** What there is to say while the model rests. */
  #restingWords(): string {
    const { presence } = this.#connection;
    const words = PRESENCE[presence === "live" && this.#slow ? "waiting" : presence];
    if (words !== "" || this.#loading) return words || "Loading image…";
    const player = this.#player;
    if (player?.waiting) return player.failure ?? `Loading frame ${player.target}…`;
    if (this.#dataset?.away) return `Loading image ${this.#dataset.target + 1}…`;
    const active = this.#editor.concepts.active;
    const told = active === null ? null : remarkOf(active);
    if (active === null || active.pending || told === null) return "";
    const name = nameOf(active);
    if (isCancelled(active.error)) return `${name}: cancelled`;
    return told.includes(name) ? told : `${name}: ${told}`;
  }

  #where(): void {
    const { viewport } = this.#stage;
    const at = this.#editor.cursor ?? this.#editor.hovered;
    const place = at !== null && viewport.contains(at) ? `${Math.floor(at.x)}, ${Math.floor(at.y)}` : "";
    this.#status.where(place, `${Math.round(viewport.scale * 100)} %`);
  }

  #scene(): Scene {
    const { state } = this.#seen;
    const editor = this.#editor;
    const brushAt = editor.cursor ?? editor.hovered;
    return {
      state,
      prompts: editor.prompts,
      concepts: editor.concepts.now,
      mode: editor.concepts.mode,
      colour: editor.selected?.color ?? "#3f8cff",
      chosen: editor.chosen,
      draft: editor.draft,
      cursor: this.#onCanvas() ? editor.cursor : null,
      brush:
        editor.tool === "brush" && brushAt !== null
          ? { at: brushAt, radius: editor.radius, positive: editor.positive }
          : null,
      opacity: this.#opacity,
      outlineOnly: this.#outlineOnly,
      lit: state?.instances.some(({ concept_id }) => concept_id === editor.lit) ? editor.lit : null,
    };
  }

  #painted(): void {
    // A frame that follows a new size shows the picture at another scale.
    this.#where();
    setAttribute(this.element, "data-sam3w-revision", String(this.#connection.rev));
    setAttribute(this.element, "data-sam3w-state", this.#currentState());
  }
}
