/* What the page does by itself, without asking the monitor. */
(function () {
  "use strict";
  const noUpdate = () => window.dash_clientside.no_update;
  const graph = (name) => document.querySelector("#" + name + " .js-plotly-plot");

  /* a chart's x range as [low, high], or null while it shows everything */
  function xRange(drawn) {
    const axis = drawn && drawn._fullLayout && drawn._fullLayout.xaxis;
    return axis && !axis.autorange ? axis.range.slice() : null;
  }

  /* whether two ranges are the same but for rounding: else two charts would zoom each other for ever */
  function sameRange(range, other) {
    if (range === null || other === null) return range === other;
    const width = Math.abs(range[1] - range[0]) || 1;
    return range.every((edge, i) => Math.abs(edge - other[i]) < 1e-6 * width);
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    monitor: {
      /* the theme chosen or preferred, whether the monitor still answers, and the next update to ask for */
      onTick: function (tick, choice, answered, theme, lost, missed, beat) {
        const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
        const wanted = choice || (dark ? "dark" : "light");
        document.documentElement.dataset.theme = wanted;
        const notice = (tick || 0) - (answered || 0) > missed
          ? "The monitor does not answer: this page stands still until it is back." : "";
        const file = document.querySelector("#forecast-upload input"); /* which Dash gives no name */
        if (file && !file.ariaLabel) file.ariaLabel = "Rows as CSV";
        /* Dash drops an answer that is still awaited when its callback is called again. So the next update
           waits for the last one, or a slow monitor would never be heard. */
        const next = answered >= beat || (tick || 0) - beat > missed ? tick || 0 : beat;
        return [wanted === theme ? noUpdate() : wanted, notice === (lost || "") ? noUpdate() : notice,
          wanted === "dark" ? "Light" : "Dark", next === beat ? noUpdate() : next];
      },
      /* one of several buttons is pressed */
      pick: function (clicks, ids) {
        const context = window.dash_clientside.callback_context;
        if (!context.triggered.length || !context.triggered[0].value) return [noUpdate(), ids.map(noUpdate)];
        const value = context.triggered_id.value;
        return [value, ids.map((id) => String(id.value === value))];
      },
      chooseTheme: (clicks, theme) => clicks ? (theme === "dark" ? "light" : "dark") : noUpdate(),
      pause: (clicks) => clicks % 2 ? [true, "Resume"] : [false, "Pause"],
      /* which of the two views the address names */
      showView: function (path) {
        const forecast = /\/forecast\/?$/.test(path || "/");
        document.title = forecast ? "Millrace forecast" : "Millrace monitor";
        /* Plotly gave the charts of a hidden view no size */
        window.setTimeout(() => window.dispatchEvent(new Event("resize")), 0);
        const current = (here) => here ? "here" : "";
        return [forecast, !forecast, current(!forecast), current(forecast)];
      },
      /* a zoom into one chart over the journal is one into all of them */
      linkZooms: function (...given) {
        const names = given.pop();
        const triggered = window.dash_clientside.callback_context.triggered_id;
        const from = graph(triggered), range = xRange(from);
        if (!from || !from._fullLayout) return;
        for (const name of names) {
          const other = graph(name);
          if (name === triggered || !other || !(other.data || []).length) continue;
          if (sameRange(xRange(other), range)) continue;
          window.Plotly.relayout(other, range ? { "xaxis.range": range } : { "xaxis.autorange": true });
        }
      },
      /* a button that does something to the server asks first */
      askFirst: function (clicks) {
        const context = window.dash_clientside.callback_context;
        if (!context.triggered.length || !context.triggered[0].value) return Array.from({ length: 4 }, noUpdate);
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
      closeDialog: function (no, acted) {
        const dialog = document.getElementById("ask");
        if (dialog && dialog.open) dialog.close();
      },
    },
  });
})();
