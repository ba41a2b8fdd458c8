//! Plots as SVG.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;

/// Something that grows, over something else that grows.
pub(crate) struct Curve {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    pub(crate) across: &'static str,
    pub(crate) up: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const THEIRS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);

/// Horizontal bars, on a logarithmic scale from 1.
pub(crate) fn bars(file: &Path, title: &str, bars: &[(String, f64)]) -> Result<()> {
    const ROW: i32 = 34;
    const LEFT: i32 = 270;
    const WIDTH: i32 = 860;
    const TOP: i32 = 56;
    let height = TOP + ROW * i32::try_from(bars.len())? + 20;
    let area =
        SVGBackend::new(file, (u32::try_from(WIDTH)?, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: u32| ("sans-serif", size).into_font().color(&BLACK);
    area.draw_text(title, &text(18), (20, 18))?;
    let most = bars.iter().map(|(_, value)| *value).fold(2.0, f64::max);
    let place =
        |value: f64| LEFT + (f64::from(WIDTH - LEFT - 80) * value.max(1.0).ln() / most.ln()) as i32;
    for mark in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0].into_iter().filter(|mark| *mark <= most) {
        let line = [(place(mark), TOP - 6), (place(mark), height - 14)];
        area.draw(&PathElement::new(line, THEIRS.mix(0.5)))?;
        let style = text(12).pos(Pos::new(HPos::Center, VPos::Bottom));
        area.draw_text(&format!("{mark} ×"), &style, (place(mark), TOP - 8))?;
    }
    for (row, (name, value)) in bars.iter().enumerate() {
        let y = TOP + ROW * i32::try_from(row)?;
        let color = if name.starts_with("skytls") { OURS } else { THEIRS };
        let style = text(14).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw_text(name, &style, (LEFT - 10, y + ROW / 2))?;
        let bar = [(LEFT, y + 6), (place(*value).max(LEFT + 2), y + ROW - 6)];
        area.draw(&Rectangle::new(bar, color.filled()))?;
        let style = text(14).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(
            &format!("{value:.2}"),
            &style,
            (place(*value).max(LEFT + 2) + 8, y + ROW / 2),
        )?;
    }
    area.present()?;
    Ok(())
}

/// A curve over a logarithmic axis, from zero upwards: what does not grow is flat.
pub(crate) fn curve(folder: &Path, curve: &Curve) -> Result<()> {
    let file = folder.join(curve.file);
    let area = SVGBackend::new(&file, (640, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let (mut least, mut most, mut top) = (f64::MAX, 0.0, 0.0);
    for (x, y) in &curve.points {
        (least, most, top) = (x.min(least), x.max(most), y.max(top));
    }
    let mut chart = ChartBuilder::on(&area)
        .caption(curve.title, ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(62)
        .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..top * 1.3)?;
    chart
        .configure_mesh()
        .x_desc(curve.across)
        .y_desc(curve.up)
        .x_label_formatter(&|x| thousands(*x))
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(LineSeries::new(curve.points.iter().copied(), OURS.stroke_width(2)))?;
    chart.draw_series(curve.points.iter().map(|point| Circle::new(*point, 4, OURS.filled())))?;
    area.present()?;
    Ok(())
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
