/* What the page does by itself, without asking the monitor. */
(function () {
  "use strict";
  const same = () => window.dash_clientside.no_update;
  const graph = (name) => document.querySelector("#" + name + " .js-plotly-plot");

  /* a chart's x range as [low, high], or null while it shows everything */
  function reach(drawn) {
    const axis = drawn && drawn._fullLayout && drawn._fullLayout.xaxis;
    return axis && !axis.autorange ? axis.range.slice() : null;
  }

  function alike(one, other) {
    if (one === null || other === null) return one === other;
    const width = Math.abs(one[1] - one[0]) || 1;
    return one.every((edge, i) => Math.abs(edge - other[i]) < 1e-6 * width);
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    monitor: {
      /* the theme chosen or preferred, and whether the monitor's answers stay away */
      look: function (tick, choice, answered, theme, lost, missed, beat) {
        const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
        const wanted = choice || (dark ? "dark" : "light");
        document.documentElement.dataset.theme = wanted;
        const words = (tick || 0) - (answered || 0) > missed
          ? "The monitor does not answer: this page stands still until it is back." : "";
        const file = document.querySelector("#forecast-upload input"); /* which Dash gives no name */
        if (file && !file.ariaLabel) file.ariaLabel = "Rows as CSV";
        /* A question asked again while its answer is awaited makes Dash drop that answer: so the next one
           waits for it, or a slow monitor would never be heard. */
        const next = answered >= beat || (tick || 0) - beat > missed ? tick || 0 : beat;
        return [wanted === theme ? same() : wanted, words === (lost || "") ? same() : words,
          wanted === "dark" ? "Light" : "Dark", next === beat ? same() : next];
      },
      /* one of several buttons is pressed */
      pick: function (clicks, ids) {
        const context = window.dash_clientside.callback_context;
        if (!context.triggered.length || !context.triggered[0].value) return [same(), ids.map(same)];
        const value = context.triggered_id.value;
        return [value, ids.map((id) => String(id.value === value))];
      },
      choose: (clicks, theme) => clicks ? (theme === "dark" ? "light" : "dark") : same(),
      pause: (clicks) => clicks % 2 ? [true, "Resume"] : [false, "Pause"],
      /* which of the two views the address names */
      view: function (path) {
        const forecast = /\/forecast\/?$/.test(path || "/");
        document.title = forecast ? "Millrace forecast" : "Millrace monitor";
        window.setTimeout(() => window.dispatchEvent(new Event("resize")), 0);
        const current = (here) => here ? "here" : "";
        return [forecast, !forecast, current(!forecast), current(forecast)];
      },
      /* a zoom into one chart over the journal is one into all of them */
      link: function (...given) {
        const names = given.pop();
        const triggered = window.dash_clientside.callback_context.triggered_id;
        const from = graph(triggered), wanted = reach(from);
        if (!from || !from._fullLayout) return;
        for (const name of names) {
          const other = graph(name);
          if (name === triggered || !other || !(other.data || []).length) continue;
          if (alike(reach(other), wanted)) continue;
          window.Plotly.relayout(other, wanted ? { "xaxis.range": wanted } : { "xaxis.autorange": true });
        }
      },
      /* a button that does something to the server asks first */
      ask: function (clicks) {
        const context = window.dash_clientside.callback_context;
        if (!context.triggered.length || !context.triggered[0].value) return [same(), same(), same(), same()];
        const { action, target } = context.triggered_id;
        const [title, text] = action === "rollback"
          ? ["Roll back to model_v" + target + "?",
             "It becomes the newest version and is served at once. What was learned since is left out of the model;"
             + " no label is lost, and you can go back again."]
          : ["Release label " + target + "?", "It is learned as if it had not been set aside."];
        const dialog = document.getElementById("ask");
        if (!dialog.open) dialog.showModal();
        return [{ action, target }, title, text, ""];
      },
      close: function (no, acted) {
        const dialog = document.getElementById("ask");
        if (dialog && dialog.open) dialog.close();
      },
    },
  });
})();
